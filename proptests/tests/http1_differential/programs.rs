//! Readers that are programs: all messages go in at once, a line of JSON comes out for each.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use selvedge_proptests::differential::{Kind, Message, Order, Reader, Reading, Start};
use serde_json::Value;

/// A program.
pub(crate) struct Program {
    pub(crate) reader: Reader<'static>,
    command: &'static str,
    script: &'static str,
    /// Arguments with which it prints its version, if it and what it needs is installed.
    probe: [&'static str; 2],
    /// The versions that the list of disagreements was made with begin so.
    version: &'static str,
}

pub(crate) const PROGRAMS: [Program; 2] = [
    Program {
        reader: Reader { name: "node", order: Order::Kept, target: <[u8]>::to_vec },
        command: "node",
        script: "node.js",
        probe: ["-e", "process.binding('http_parser'); console.log(process.versions.node)"],
        version: "20.",
    },
    Program {
        reader: Reader { name: "h11", order: Order::Kept, target: <[u8]>::to_vec },
        command: "python3",
        script: "read_h11.py",
        probe: ["-c", "import h11; print(h11.__version__)"],
        version: "0.",
    },
];

impl Program {
    /// Its version. If it is not there it says so, and fails where everything has to be there.
    pub(crate) fn version(&self) -> Option<String> {
        let probe = Command::new(self.command).args(self.probe).stderr(Stdio::null()).output();
        let output = probe.ok().filter(|output| output.status.success());
        if output.is_none() {
            println!("*** SKIPPED: {} is not installed ***", self.reader.name);
            let required = std::env::var_os("SELVEDGE_REQUIRE_PEERS").is_some();
            assert!(!required, "{} is not installed", self.reader.name);
        }
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Is this a version that the list of disagreements speaks of? Others refuse other things; what
    /// we forward all of them must read.
    pub(crate) fn is_listed(&self, version: &str) -> bool {
        version.starts_with(self.version)
    }

    /// What it makes of each of these.
    pub(crate) fn read(&self, records: &[(Kind, Vec<u8>)]) -> Vec<Reading> {
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/http1_differential");
        let mut child = Command::new(self.command)
            .arg(scripts.join(self.script))
            .env_remove("NODE_OPTIONS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is there");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                for (kind, bytes) in records {
                    let kind = match kind {
                        Kind::Request | Kind::Redirected => 0,
                        Kind::Response(to) if to.is_head => 2,
                        Kind::Response(to) => 1 + 2 * u8::from(to.is_connect),
                    };
                    let length = (bytes.len() as u32).to_be_bytes();
                    // A program that ended early says more by its exit.
                    let _ = stdin.write_all(&[&[kind][..], &length, bytes].concat());
                }
            });
            child.wait_with_output().expect("it can be waited for")
        });
        assert!(output.status.success(), "{}: {}", self.reader.name, output.status);
        let text = String::from_utf8(output.stdout).expect("JSON");
        let readings: Vec<Reading> = text.lines().map(reading).collect();
        assert_eq!(readings.len(), records.len(), "{}", self.reader.name);
        readings
    }
}

fn reading(line: &str) -> Reading {
    let value: Value = serde_json::from_str(line).expect("JSON");
    let messages = value["messages"].as_array().expect("a list");
    Reading {
        messages: messages.iter().map(message).collect(),
        error: value["error"].as_str().map(str::to_owned),
    }
}

fn message(value: &Value) -> Message {
    let start = match value["start"].as_array().map(Vec::as_slice) {
        Some([method, target]) => Start::Request(unhex(method), unhex(target)),
        Some([status]) => Start::Response(status.as_u64().expect("a status") as u16),
        other => panic!("{other:?}"),
    };
    let fields = |list: &Value| {
        let list = list.as_array().expect("a list").iter();
        list.map(|pair| (unhex(&pair[0]), unhex(&pair[1]))).collect()
    };
    Message {
        start,
        fields: fields(&value["fields"]),
        body: unhex(&value["body"]),
        trailers: fields(&value["trailers"]),
    }
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal").as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hexadecimal") as u8;
    text.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
