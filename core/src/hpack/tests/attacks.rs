//! What hostile blocks can do, each with an honest one that looks like it.

use alloc::{format, vec};

use super::super::hash::hash;
use super::*;

/// The limit that connections have by default.
const FIELDS: usize = 64 * 1024;

/// CVE-2016-1544 and its like: an entry of nearly the whole table, and an octet for each copy of it.
#[test]
fn a_bomb_goes_off_only_up_to_the_limit() {
    let mut decoder = Decoder::new(4096);
    let value = vec![b'v'; 4000];
    let bomb = [&indexed(b"x-bomb", &value)[..], &[0xbe; 16_000]].concat();
    let (mut count, mut octets) = (0, 0);
    let outcome = decoder.decode(&bomb, FIELDS, |line| {
        count += 1;
        octets += line.name.len() + line.value.len();
    });
    assert_eq!((outcome, count), (Ok(Decoded::TooLarge), FIELDS / 4038));
    assert!(octets <= FIELDS && decoder.heap_bytes() < 16 * 1024);
    // In step still: the connection goes on.
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok([(b"x-bomb".to_vec(), value)].to_vec()));
}

/// Also of fields that are nothing but their overhead.
#[test]
fn empty_fields_count() {
    let block = vec![0x00; 3 * 100_000];
    let mut count = 0;
    let outcome = Decoder::new(4096).decode(&block, FIELDS, |_| count += 1);
    assert_eq!((outcome, count), (Ok(Decoded::TooLarge), FIELDS / 32));
}

/// The twin: a browser splits its cookies, and sends them all from the table.
#[test]
fn ninety_cookie_crumbs_pass() {
    let mut decoder = Decoder::new(16 * 1024);
    let mut block = hex("3f e1 7f");
    let mut expected = Vec::new();
    for number in 0..15 {
        let (name, value) = (format!("x-name-{number}"), format!("value-{number}"));
        block.extend(indexed(name.as_bytes(), value.as_bytes()));
        expected.push(field(&name, &value));
    }
    for number in 0..90 {
        let crumb = format!("crumb{number}={}", "c".repeat(40));
        block.extend(indexed(b"cookie", crumb.as_bytes()));
        expected.push(field("cookie", &crumb));
    }
    assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
    let mut again = BytesMut::new();
    for index in (62..62 + 105).rev() {
        integer::write(&mut again, 0x80, 7, index);
    }
    assert_eq!(decode(&mut decoder, &again), Ok(expected));
}

/// A new entry of three octets that takes a long name from an older one: 8,000 times 4,000 octets
/// would be copied.
#[test]
fn long_names_are_not_copied_for_nothing() {
    let name = vec![b'n'; 4000];
    let block = [&indexed(&name, b"")[..], &[0x7e, 0x00].repeat(8000)].concat();
    let mut decoder = Decoder::new(4096);
    assert_eq!(decoder.decode(&block, FIELDS, |_| {}), Err(Error::Amplified));
}

/// The twin: long names, and another value with each block.
#[test]
fn long_names_pass() {
    let name = vec![b'n'; 1000];
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &indexed(&name, b"")).expect("a good block");
    for value in 0..=255 {
        let block = [0x7e, 1, value, 0x7e, 1, value, 0x7e, 1, value];
        let expected = vec![(name.clone(), vec![value]); 3];
        assert_eq!(decode(&mut decoder, &block), Ok(expected));
    }
    // And short ones as often as anybody likes.
    let block = [&indexed(b"x-metadata", b"")[..], &[0x7e, 1, b'v'].repeat(5000)].concat();
    assert_eq!(decode(&mut decoder, &block).map(|fields| fields.len()), Ok(5001));
}

/// Entries that evict each other, for as long as a block can be: the arena does not grow with them.
#[test]
fn churning_the_table_takes_no_room() {
    let mut decoder = Decoder::new(4096);
    let block: Vec<u8> =
        (0..40_000_u32).flat_map(|number| indexed(b"", &number.to_be_bytes()[2..])).collect();
    let fields = decoder.decode(&block, FIELDS, |_| {});
    assert_eq!(fields, Ok(Decoded::TooLarge));
    assert!(decoder.table_bytes() <= 4096 && decoder.heap_bytes() < 8 * 1024);
    // The newest are there: 39,999 is 0x9c3f.
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok(vec![(vec![], vec![0x9c, 0x3f])]));
}

/// The twin: ten thousand blocks of one connection, each with something new to index.
#[test]
fn new_values_pass_for_ever() {
    let mut decoder = Decoder::new(4096);
    for number in 0..10_000 {
        let value = format!("value-{number}");
        let block = [&indexed(b"x-name", value.as_bytes())[..], &[0xbe]].concat();
        let expected = vec![field("x-name", &value); 2];
        assert_eq!(decode(&mut decoder, &block), Ok(expected));
    }
}

/// A block of nothing but size updates (RFC 7541 §4.2).
#[test]
fn a_flood_of_size_updates_ends_at_the_third() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, &[0x20; 10_000]), Err(Error::SizeUpdateMisplaced));
}

/// The twin: a sender that empties its table before every block.
#[test]
fn two_updates_in_every_block_pass() {
    let mut decoder = Decoder::new(4096);
    for _ in 0..10_000 {
        let block = [&hex("20 3fe11f")[..], &indexed(b"a", b"b"), &[0xbe]].concat();
        assert_eq!(decode(&mut decoder, &block), Ok(vec![field("a", "b"); 2]));
    }
}

/// Integers in as many octets as there may be, and one more (RFC 7541 §5.1).
#[test]
fn endless_integers_end() {
    let mut block = vec![0xff];
    block.resize(100_000, 0x80);
    block.push(0x00);
    assert_eq!(decode(&mut Decoder::new(4096), &block), Err(Error::IntegerOverflow));
    // The twin: a sender that always leaves room for five.
    let block = [&hex("1f 80 80 80 80 00")[..], b"\x01v"].concat();
    let name = decode(&mut Decoder::new(4096), &block);
    assert_eq!(name, Ok([field("accept-charset", "v")].to_vec()));
}

/// Values that all have their first place in one spot cost their compression, and nothing else.
#[test]
fn colliding_values_still_arrive() {
    let name_hash = hash(0, b"server");
    let mut colliding = (0_u32..)
        .map(|number| format!("{number}"))
        .filter(|value| (hash(name_hash, value.as_bytes()) >> 24).is_multiple_of(512));
    let values: Vec<_> = colliding.by_ref().take(64).collect();
    let fields: Vec<(&str, &str)> = values.iter().map(|value| ("server", &value[..])).collect();
    let expected: Vec<Field> = values.iter().map(|value| field("server", value)).collect();
    let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
    for _ in 0..20 {
        let block = encode(&mut encoder, &fields);
        assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
    }
    assert!(encoder.heap_bytes() <= 12 * 1024, "{}", encoder.heap_bytes());
}
