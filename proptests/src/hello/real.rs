//! ClientHellos that real programs have sent.

use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;

/// One of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealHello {
    /// Its file, beside the table.
    pub file: String,
    /// Which program, in which version.
    pub program: String,
    /// How it was asked.
    pub how: String,
    /// The server name that it must give.
    pub server_name: Option<String>,
    /// The protocols that it must give.
    #[serde(default)]
    pub protocols: Vec<String>,
    /// What was sent: the records of the hello, and nothing else.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// All of them, with their bytes.
///
/// # Panics
/// If the table or a file cannot be read.
pub fn real_hellos() -> &'static [RealHello] {
    static HELLOS: LazyLock<Vec<RealHello>> = LazyLock::new(read);
    &HELLOS
}

fn read() -> Vec<RealHello> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        hello: Vec<RealHello>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tables/hellos");
    let text = std::fs::read_to_string(folder.join("hellos.toml")).expect("the table");
    let Table { mut hello } = toml::from_str(&text).expect("a table");
    for hello in &mut hello {
        hello.bytes = std::fs::read(folder.join(&hello.file)).expect("a file of the table");
    }
    hello
}
