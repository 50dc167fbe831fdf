//! The private key of a proxy never touches a disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{identity, init, text_of};
use crate::common::{Mesh, Need, PATIENCE, eventually, have, program, run, signal};

/// Every way to open a file for writing, and every way to write, with what each descriptor is.
const CALLS: &str = "trace=open,openat,openat2,creat,memfd_create,write,writev,pwrite64,pwritev,\
    pwritev2,sendfile,splice,copy_file_range,io_uring_setup,mmap,rename,renameat,renameat2,link,\
    linkat";

/// What a process wrote, by strace.
struct Written {
    /// Files that were opened for writing or made.
    opened: BTreeSet<String>,
    /// Where bytes went.
    targets: BTreeSet<String>,
}

fn read(trace: &Path) -> Written {
    let text = fs::read_to_string(trace).expect("no trace");
    assert!(text.contains("openat("), "nothing was traced: {text}");
    let mut written = Written { opened: BTreeSet::new(), targets: BTreeSet::new() };
    for line in text.lines() {
        // PID call(arguments) = result
        let Some((_, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let name = call.split('(').next().unwrap_or_default();
        let failed = call.contains(" = -1 ");
        let for_writing = ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.contains(flag));
        match name {
            "open" | "openat" | "openat2" if for_writing && !failed => {
                written.opened.insert(call.split('"').nth(1).unwrap_or(call).into());
            }
            "creat" | "memfd_create" | "io_uring_setup" | "copy_file_range" | "rename"
            | "renameat" | "renameat2" | "link" | "linkat"
                if !failed =>
            {
                written.opened.insert(call.into());
            }
            // A file that is mapped so is written to by the kernel.
            "mmap" if call.contains("MAP_SHARED") && call.contains("PROT_WRITE") => {
                written.opened.insert(call.into());
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendfile" | "splice" => {
                // 3</dev/null>, 4<socket:[1]>
                let target = call.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                let target = target.map_or(call, |(target, _)| target);
                let target = target.split(":[").next().unwrap_or(target);
                written.targets.insert(target.into());
            }
            _ => {}
        }
    }
    written
}

fn traced(trace: &Path) -> Vec<String> {
    // The traced process ends with strace, whoever ends that.
    let words = ["strace", "-f", "-y", "-o", text_of(trace), "-e", CALLS];
    let words = [&words[..], &["setpriv", "--pdeathsig", "KILL"]].concat();
    words.iter().map(|&word| word.into()).collect()
}

/// Is there anything in it that a key could be, whatever it is written as?
fn may_hold_a_key(text: &str) -> bool {
    // 32 bytes are 43 characters in base64 and 64 in hexadecimal.
    let is_code = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    text.contains("PRIVATE")
        || text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace())
        || text.split(|c| !is_code(c)).any(|run| run.len() >= 43)
}

#[test]
fn the_private_key_never_touches_a_disk() {
    if !have(&[Need::Program("strace"), Need::Program("setpriv"), Need::Program("curl")]) {
        return;
    }
    let (_ca_folder, ca) = init();
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let trace = folder.path().join("trace");
    let mut mesh = Mesh::new().section(identity("web.ns.cluster.local", &ca));
    mesh.wrapper = traced(&trace);
    let mut proxy = mesh.start();
    // A second certificate, from the same key.
    let mut next = proxy.mesh.clone();
    next.sections[0].push_str("\nlifetime = \"1h\"");
    proxy.rewrite_by_rename(&next);
    let certified = "control_identity_cert_refreshes_total{result=\"success\"}";
    eventually("it was certified again", PATIENCE, || (proxy.metric(certified) == 2).then_some(()));
    let children = format!("/proc/{0}/task/{0}/children", proxy.pid());
    let children = fs::read_to_string(children).expect("no children");
    for child in children.split_whitespace() {
        signal(child.parse().expect("a process"), "TERM");
    }
    proxy.wait(PATIENCE);

    let written = read(&trace);
    let harmless = BTreeSet::from(["/dev/null".to_owned()]);
    assert!(written.opened.is_subset(&harmless), "{:?}", written.opened);
    // Its log, which is shown to everybody, and what no disk is behind.
    let files: Vec<_> = written
        .targets
        .iter()
        .filter(|target| target.starts_with('/') && !target.starts_with("/dev/"))
        .collect();
    assert!(files.iter().all(|file| file.ends_with("/log")), "{files:?}");
    assert!(!files.is_empty(), "not even its log: {:?}", written.targets);
    let log = proxy.log();
    assert!(log.contains("certified name="), "{log}");
    assert!(!may_hold_a_key(&log), "{log}");
    // Nor would a crash leave it in a core file.
    let proxy = Mesh::new().section(identity("web.ns.cluster.local", &ca)).start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).expect("no limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.expect("no such limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{core:?}");
}

/// The twin: a key that is written is seen.
#[test]
fn a_key_that_is_written_is_seen() {
    if !have(&[Need::Program("strace"), Need::Program("setpriv")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let (trace, ca) = (folder.path().join("trace"), folder.path().join("ca"));
    let words = traced(&trace);
    let mut command = program(&words[0]);
    command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_selvedge")).args([
        "ca",
        "init",
        text_of(&ca),
    ]);
    run(&mut command, PATIENCE).ok();
    let written = read(&trace);
    let key = text_of(&ca.join("ca.key")).to_owned();
    assert!(written.opened.contains(&key), "{:?}", written.opened);
    assert!(written.targets.contains(&key), "{:?}", written.targets);
    let text = fs::read_to_string(&key).expect("no key");
    assert!(may_hold_a_key(&text));
    // Without its armour, in one line, and in hexadecimal.
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(may_hold_a_key(&body));
    assert!(may_hold_a_key(&format!("key={}", "0f".repeat(32))));
    assert!(may_hold_a_key("\u{1}\u{7f}\u{3}"));
    assert!(!may_hold_a_key("12:00 INFO certified name=web.ns.cluster.local conn=c1.0"));
}
