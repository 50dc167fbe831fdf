//! ClientHellos: those of real programs in every cut, and generated ones beside rustls.

use std::collections::BTreeMap;

use selvedge_core::tls::HelloScanner;
use selvedge_proptests::choose::Seeded;
use selvedge_proptests::hello::{
    Agreement, DIFFERENCES, LIMIT, Reading, client_hello, compare, generate, ours, real_hellos,
    theirs,
};

#[test]
fn hellos_of_real_programs_are_read_in_every_cut() {
    let hellos = real_hellos();
    assert!(hellos.len() >= 17);
    for hello in hellos {
        let bytes = &hello.bytes;
        let protocols = hello.protocols.iter().map(|name| name.clone().into_bytes()).collect();
        let expected = Reading { server_name: hello.server_name.clone(), protocols };
        let mut bytewise = HelloScanner::default();
        for cut in 0..bytes.len() {
            let file = &hello.file;
            assert_eq!(ours(&mut bytewise, &bytes[..cut], LIMIT), Ok(None), "{file} to {cut}");
            let mut scanner = HelloScanner::default();
            assert_eq!(ours(&mut scanner, &bytes[..cut], LIMIT), Ok(None), "{file} cut at {cut}");
            let read = ours(&mut scanner, bytes, LIMIT);
            assert_eq!(read, Ok(Some(expected.clone())), "{file} cut at {cut}");
        }
        assert_eq!(ours(&mut bytewise, bytes, LIMIT), Ok(Some(expected.clone())), "{}", hello.file);
        // rustls has no use for those that speak TLS 1.0 only.
        let alike = !matches!(compare(bytes), Agreement::No(_));
        assert!(alike && hello.file != "openssl.bin" || theirs(bytes) == Ok(Some(expected)));
    }
}

fn count() -> u64 {
    std::env::var("SELVEDGE_SEEDS").map_or(8_000, |text| text.parse().expect("a number"))
}

/// What we read rustls reads, but for what is listed; and each line of the list has its case.
#[test]
fn we_read_what_rustls_reads() {
    let mut seen = vec![0_u64; DIFFERENCES.len()];
    let (mut agreed, mut read) = (0, 0);
    let mut problems = BTreeMap::new();
    for seed in 0..count() {
        let bytes = generate(&mut Seeded::new(seed));
        read += u64::from(matches!(theirs(&bytes), Ok(Some(_))));
        match compare(&bytes) {
            Agreement::Yes => agreed += 1,
            Agreement::Listed(difference) => {
                let index = DIFFERENCES.iter().position(|other| other == difference);
                seen[index.expect("it is listed")] += 1;
            }
            Agreement::No(problem) => {
                let kind = problem.lines().next().unwrap_or_default().to_owned();
                let (count, _) = problems.entry(kind).or_insert((0, format!("seed {seed}")));
                *count += 1;
            }
        }
    }
    for (difference, count) in DIFFERENCES.iter().zip(&seen) {
        println!("{count:>6}  {} / {}: {}", difference.ours, difference.theirs, difference.why);
    }
    println!("{agreed:>6}  alike, of {}; rustls reads {read}", count());
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(agreed > count() / 2 && read > count() / 4, "{agreed} {read}");
    for (difference, count) in DIFFERENCES.iter().zip(seen) {
        assert!(count > 0, "never happens: {difference:?}");
    }
}

#[test]
fn generated_hellos_pass_what_the_fuzzer_checks() {
    for seed in 0..count() / 10 {
        let bytes = generate(&mut Seeded::new(seed));
        client_hello(
            &[&(seed as u32).wrapping_mul(0x9e37_79b9).to_le_bytes()[..], &bytes].concat(),
        );
    }
}
