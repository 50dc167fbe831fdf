//! How the binary is linked: what starts and runs a proxy lies together, and the same in what the kernel
//! maps at each start; and relocations are packed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The functions that ran while `proxy/bench/layout` looked, and objects of assembly, one a line.
const USED: &str = "layout.txt";
/// Tables of curves that nobody has asked for, so that they do not lie between those that are read.
const UNUSED_TABLES: [&str; 7] = [
    "*(.rodata.p521_g_pre_comp)",
    "*(.rodata.p384_g_pre_comp)",
    "*(.rodata.g_p224_pre_comp)",
    "*edwards25519_scalarmul*.o(.rodata)",
    "*curve25519_x25519base_alt.o(.rodata)",
    "*p384*.o(.rodata)",
    "*p521*.o(.rodata)",
];
/// What the kernel maps around a page that is touched, by address. A program that is loaded at multiples
/// of it, as kernels do since 5.10 where it asks for such pages, has as many of them resident each time;
/// else some more, by chance.
const FAULT_AROUND: u32 = 1 << 16;
/// Linkers that take no such script as is made here; lld, which Rust brings, and GNU's do.
const WITHOUT_SCRIPTS: [&str; 3] = ["gold", "mold", "wild"];
/// The first glibc that applies `DT_RELR`. An older one says so and does not start the program.
const RELR_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={USED}");
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") && !takes_no_script() {
        lay_out();
        println!("cargo:rustc-link-arg-bins=-Wl,-z,max-page-size={FAULT_AROUND}");
    }
    let gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if gnu {
        // The unwinder, which only backtraces use, without a shared object of its own.
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
    let here = env::var_os("HOST").is_some_and(|host| env::var_os("TARGET") == Some(host));
    if here && gnu && glibc().is_some_and(|version| version >= RELR_SINCE) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn is(name: &str, value: &str) -> bool {
    env::var(name).is_ok_and(|found| found == value)
}

/// Whether whoever builds has chosen one of [`WITHOUT_SCRIPTS`].
fn takes_no_script() -> bool {
    let chosen =
        ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_LINKER"].map(|name| env::var(name).unwrap_or_default());
    WITHOUT_SCRIPTS.iter().any(|linker| chosen.iter().any(|words| words.contains(linker)))
}

/// Puts the functions that are used, a third of the code, before the others: spread over all of it, they
/// keep nearly all of it resident ([`FAULT_AROUND`]).
fn lay_out() {
    let used = fs::read_to_string(USED).unwrap_or_else(|error| panic!("{USED}: {error}"));
    let tables = UNUSED_TABLES.map(str::to_owned);
    // The first objects are where every program starts.
    let starts = ["*crt1.o(.text)", "*crtbegin*.o(.text)"].map(str::to_owned);
    let functions = starts.into_iter().chain(used.lines().map(input_sections));
    let script = output_section("rodata", "eh_frame_hdr", tables)
        + &output_section("text", "init", functions);
    let path = out_dir().join("layout.ld");
    fs::write(&path, script).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", path.display());
}

/// One that begins with these input sections, and where it stands.
fn output_section(name: &str, before: &str, first: impl IntoIterator<Item = String>) -> String {
    let first = first.into_iter().collect::<Vec<_>>().join("\n    ");
    format!(
        "SECTIONS\n{{\n  .{name} :\n  {{\n    {first}\n    *(.{name} .{name}.*)\n  }}\n}}\nINSERT BEFORE .{before};\n"
    )
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"))
}

/// Where a line of the list is found. Compilers give each function a section, and those of Rust a name
/// that ends in a hash; assemblers make one for a file.
fn input_sections(name: &str) -> String {
    if Path::new(name).extension().is_some_and(|extension| extension == "o") {
        return format!("*-{name}(.text)");
    }
    let (file, name) = match name.split_once(' ') {
        // A crate, where there are others of that name.
        Some((from, name)) => (format!("*.{from}.*.o"), name),
        None => ("*".to_owned(), name),
    };
    let end = if name.starts_with("_ZN") {
        "17h*"
    } else if name.starts_with("_R") {
        "*"
    } else {
        ""
    };
    // What a profile found hot (proxy/bench/pgo) has a section that says so.
    let sections =
        ["", "hot.", "unlikely.", "startup."].map(|kind| format!(".text.{kind}{name}{end}"));
    format!("{file}({})", sections.join(" "))
}

/// The version of the C library, as `getconf` tells it.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
