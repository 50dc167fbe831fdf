//! How large the adapters are: the figures of the README.

use std::path::Path;

/// Lines of code, without comments, blank lines and tests; and all lines, without tests.
fn lines(path: &str) -> (usize, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let mut sum = (0, 0);
    if path.is_dir() {
        for entry in path.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let (code, all) = lines(path.to_str().unwrap());
            sum = (sum.0 + code, sum.1 + all);
        }
    } else if path.file_name().is_some_and(|name| name != "tests.rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests come last in a file.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = text.lines().map(str::trim_start);
        sum.0 = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        sum.1 = text.lines().count();
    }
    sum
}

#[test]
fn adapters_are_thin() {
    let tokio = lines("runtime-tokio/src");
    let smol = lines("runtime-smol/src");
    let driver = lines("runtime-tokio/driver/src");
    let epoll = lines("proxy/examples/epoll.rs");
    for (name, (code, all)) in
        [("tokio", tokio), ("smol", smol), ("the driver of both", driver), ("epoll", epoll)]
    {
        println!("{name}: {code} lines of code, {all} with comments");
    }
    assert!(tokio.1 < 1000 && smol.1 < 1000, "an adapter");
    assert!(epoll.1 <= 400, "the example");
}
