//! What a program costs, by valgrind: it repeats, whatever else the machine does.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Instructions, by callgrind.
    Instructions,
    /// Blocks that were allocated, or changed their size, by DHAT.
    Allocations,
    /// Bytes that `memcpy` and its like copied, by DHAT: not what the compiler copies in place.
    Copied,
    /// Bytes on the heap at the end, by DHAT.
    Held,
}

/// What is measured: examples of the core and, where there is more in them than the core, of proptests.
const PROGRAMS: [&str; 7] = [
    "exchange_cost",
    "hop_cost",
    "hpack_cost",
    "head_cost",
    "engine_cost",
    "pair_cost",
    "reference_cost",
];

/// Is it there?
pub(crate) fn is_installed() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Builds the programs that are measured, optimised as the binary is, and says where they are.
pub(crate) fn build() -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--locked", "--quiet", "--release"])
        .args(["-p", "selvedge-core", "-p", "selvedge-proptests"])
        .args(PROGRAMS.map(|program| ["--example", program]).concat())
        .current_dir(root)
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("the programs that are measured cannot be built");
        process::exit(1);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("release").join("examples")
}

/// What a run of a program costs in all.
pub(crate) fn count(measure: Measure, program: &Path, args: &[impl AsRef<OsStr>]) -> u64 {
    let tool: &[&str] = match measure {
        Measure::Instructions => &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
        Measure::Allocations | Measure::Held => &["--tool=dhat", "--dhat-out-file=/dev/null"],
        Measure::Copied => &["--tool=dhat", "--mode=copy", "--dhat-out-file=/dev/null"],
    };
    let out = Command::new("valgrind")
        .args(tool)
        .arg(program)
        .args(args)
        // The parser chooses its code by the processor (valgrind knows AVX2 and nothing later). The C
        // library would, too: its copies are the same everywhere (1 % of an exchange without AVX).
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-ERMS,-FSRM")
        .output()
        .expect("valgrind starts");
    let said = String::from_utf8_lossy(&out.stderr);
    let (line, word) = match measure {
        Measure::Instructions => ("Collected :", 0),
        Measure::Allocations => ("Total:", 3),
        Measure::Copied => ("Total:", 0),
        Measure::Held => ("At t-end:", 0),
    };
    let found = said.lines().find_map(|said| said.split_once(line)).and_then(|(_, rest)| {
        let word = rest.split_whitespace().nth(word)?;
        word.replace(',', "").parse().ok()
    });
    match found {
        Some(count) if out.status.success() => count,
        _ => {
            let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
            panic!("{} {}: {}\n{said}", program.display(), args.join(" "), out.status);
        }
    }
}

/// A folder for recorded bytes, which goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let path = env::temp_dir().join(format!("selvedge-cost-{}", process::id()));
        fs::create_dir_all(&path).expect("a folder for recorded bytes");
        Folder(path)
    }

    /// A file of its own for each command.
    pub(crate) fn file(&self, words: &[&str], count: u64) -> PathBuf {
        let mut name = words.join("-").replace('/', "");
        let _ = write!(name, "-{count}");
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the folder for what is temporary: whoever tidies that finds it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
