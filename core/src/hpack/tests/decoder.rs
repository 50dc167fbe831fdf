//! What the decoder takes, and what it refuses.

use super::super::FieldLine;
use super::super::static_table::STATIC_TABLE;
use super::*;

/// Every kind of representation, and where each ends.
fn block() -> (Vec<u8>, Vec<usize>) {
    let pieces = [
        "3f 81 10",                                            // size 2080
        "82",                                                  // :method GET
        "41 8c f1e3 c2e5 f23a 6ba0 ab90 f4ff", // :authority, indexed, in Huffman code
        "40 03 782d61 03 313233",              // x-a, indexed
        "04 0c 2f73 616d 706c 652f 7061 7468", // :path, plain
        "10 88 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf", // both in Huffman code, never indexed
        "7e 01 62",                                            // the name of an entry
        "0f 2f 00",                                            // the name of an entry, plain, empty
        "be",                                                  // an entry
        "1f 00 01 7a",                                         // index 15 in two octets
    ];
    let mut block = Vec::new();
    let ends = pieces.map(|piece| {
        block.extend(hex(piece));
        block.len()
    });
    (block, ends.to_vec())
}

/// RFC 7541 §6: a block is whole representations.
#[test]
fn a_cut_within_a_representation_is_an_error() {
    let (block, ends) = block();
    let whole = decode(&mut Decoder::new(4096), &block).expect("a good block");
    assert_eq!(whole.len(), ends.len() - 1);
    for cut in 0..block.len() {
        let result = decode(&mut Decoder::new(4096), &block[..cut]);
        match ends.iter().position(|&end| end == cut) {
            Some(index) => assert_eq!(result.as_deref(), Ok(&whole[..index]), "{cut}"),
            None if cut == 0 => assert_eq!(result, Ok(Vec::new())),
            None => assert_eq!(result, Err(Error::Truncated), "{cut}"),
        }
    }
}

/// Any octet anywhere is an error or not, but never a panic, and cuts of it neither.
#[test]
fn a_changed_octet_does_no_harm() {
    let (block, _) = block();
    for at in 0..block.len() {
        for octet in 0..=255 {
            let mut changed = block.clone();
            changed[at] = octet;
            let _ = Decoder::new(4096).decode(&changed, LIMIT, |_| {});
            let _ = Decoder::new(4096).decode(&changed[..=at], LIMIT, |_| {});
        }
    }
}

#[test]
fn integers_have_limits() {
    let cases: [(&str, Result<usize, Error>); 16] = [
        // An index of 1 less than the prefix holds, and of 2^32 - 1.
        ("fe", Err(Error::IndexOutOfRange)),
        ("ff 80 ff ff ff 0f", Err(Error::IndexOutOfRange)),
        // 2^32, and with five octets 2^35.
        ("ff 81 ff ff ff 0f", Err(Error::IntegerOverflow)),
        ("ff ff ff ff ff 7f", Err(Error::IntegerOverflow)),
        // Five octets, and six.
        ("ff ff ff ff ff ff", Err(Error::IntegerOverflow)),
        ("ff 80 80 80 80 80 00", Err(Error::IntegerOverflow)),
        ("ff 80 80 80 80 00", Err(Error::IndexOutOfRange)),
        // The same number in more octets than it needs.
        ("1f 80 80 80 80 00 00", Ok(1)),
        ("0f 80 80 80 80 00 00", Ok(1)),
        // No more is there.
        ("ff", Err(Error::Truncated)),
        ("ff 80 80 80 80", Err(Error::Truncated)),
        // Strings longer than the block.
        ("00 01", Err(Error::Truncated)),
        ("00 7f 80 ff ff ff 0f", Err(Error::Truncated)),
        ("00 ff 80 ff ff ff 0f", Err(Error::Truncated)),
        ("00 00 7f 81 ff ff ff 0f", Err(Error::IntegerOverflow)),
        ("00 00 00", Ok(1)),
    ];
    for (block, expected) in cases {
        let result = decode(&mut Decoder::new(4096), &hex(block));
        assert_eq!(result.map(|fields| fields.len()), expected, "{block}");
    }
}

/// RFC 7541 §2.3.3.
#[test]
fn indexes_end_with_the_tables() {
    for first in [0x80, 0xbe, 0x7e, 0xfe] {
        let block = [first, 0x01, b'a'];
        let error = Err(Error::IndexOutOfRange);
        assert_eq!(decode(&mut Decoder::new(4096), &block), error, "{first:x}");
    }
    // The first of one entry is there, the second not.
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &indexed(b"a", b"b")).expect("a good block");
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok([field("a", "b")].to_vec()));
    assert_eq!(decode(&mut decoder, &[0xbf]), Err(Error::IndexOutOfRange));
}

#[test]
fn the_static_table_is_complete_and_says_its_names() {
    for (index, (name, value)) in (1..).zip(STATIC_TABLE) {
        let mut calls = 0;
        let lowest =
            STATIC_TABLE.iter().position(|entry| entry.0 == name).expect("it is there") + 1;
        let expected = FieldLine { name, value, never_indexed: false, static_name: lowest as u8 };
        let mut decoder = Decoder::new(4096);
        let outcome = decoder.decode(&[0x80 | index], LIMIT, |line| {
            assert_eq!(line, expected);
            calls += 1;
        });
        assert_eq!((outcome, calls), (Ok(Decoded::Complete), 1));
        // As the name of a literal that is indexed, and then from the table.
        let mut names = Vec::new();
        let block = [0x40 | index.min(0x3e), 1, b'v', 0xbe];
        decoder.decode(&block, LIMIT, |line| names.push(line.static_name)).expect("a good block");
        assert_eq!(names, [lowest as u8; 2]);
    }
    assert_eq!(STATIC_TABLE.len(), 61);
}

/// A name that is spelled out says nothing, though the static table has it.
#[test]
fn a_name_in_full_has_no_static_index() {
    let mut names = Vec::new();
    let block = [&indexed(b":path", b"/a")[..], &[0xbe]].concat();
    let outcome = Decoder::new(4096).decode(&block, LIMIT, |line| names.push(line.static_name));
    assert_eq!((outcome, names), (Ok(Decoded::Complete), [0, 0].to_vec()));
}

/// RFC 7541 §4.2, §6.3: where size updates may be, and what they may say.
#[test]
fn size_updates() {
    // Our setting, block, outcome.
    let cases: [(u32, &str, Result<usize, Error>); 12] = [
        (4096, "20", Ok(0)),
        (4096, "20 82", Ok(1)),
        (4096, "20 3f e1 1f 82", Ok(1)),
        (4096, "20 20 20", Err(Error::SizeUpdateMisplaced)),
        (4096, "20 21 22 82", Err(Error::SizeUpdateMisplaced)),
        (4096, "82 20", Err(Error::SizeUpdateMisplaced)),
        (4096, "20 82 20", Err(Error::SizeUpdateMisplaced)),
        (4096, "3f e2 1f", Err(Error::SizeUpdateTooLarge)),
        (4096, "20 3f e2 1f", Err(Error::SizeUpdateTooLarge)),
        (65536, "3f e1 ff 03", Ok(0)),
        (65536, "3f e2 ff 03", Err(Error::SizeUpdateTooLarge)),
        // Before the sender knows that our setting is smaller, it may use the default.
        (0, "3f e1 1f", Ok(0)),
    ];
    for (setting, block, expected) in cases {
        let result = decode(&mut Decoder::new(setting), &hex(block));
        assert_eq!(result.map(|fields| fields.len()), expected, "{block}");
    }
}

/// RFC 7541 §4.2: our settings, in the order in which they were acknowledged, and the next block.
#[test]
fn a_smaller_setting_demands_an_update() {
    let missing = Err(Error::SizeUpdateMissing);
    let cases: [(&[u32], &str, Result<usize, Error>); 14] = [
        (&[1024], "82", missing),
        (&[1024], "3f e1 07 82", Ok(1)),
        (&[1024], "20 82", Ok(1)),
        (&[1024], "20 3f e1 07 82", Ok(1)),
        (&[1024], "3f e2 07 82", Err(Error::SizeUpdateTooLarge)),
        // The smallest must have been seen, even if the last is as it was.
        (&[1024, 4096], "82", missing),
        (&[1024, 4096], "3f e1 1f 82", missing),
        (&[1024, 4096], "3f e1 07 82", Ok(1)),
        (&[1024, 4096], "3f e1 07 3f e1 1f 82", Ok(1)),
        (&[1024, 0, 512], "3f e1 07 82", Err(Error::SizeUpdateTooLarge)),
        (&[1024, 0, 512], "20 3f e1 03 82", Ok(1)),
        // A larger one demands nothing, nor does the same.
        (&[4096], "82", Ok(1)),
        (&[8192], "82", Ok(1)),
        // Nor does an empty block break anything: trailers may be one.
        (&[1024], "", Ok(0)),
    ];
    for (settings, block, expected) in cases {
        let mut decoder = Decoder::new(4096);
        for &octets in settings {
            decoder.set_limit(octets);
        }
        let result = decode(&mut decoder, &hex(block));
        assert_eq!(result.map(|fields| fields.len()), expected, "{settings:?} {block}");
    }
}

#[test]
fn an_update_is_owed_once_and_across_an_empty_block() {
    let mut decoder = Decoder::new(4096);
    decoder.set_limit(1024);
    assert_eq!(decode(&mut decoder, b""), Ok(Vec::new()));
    assert_eq!(decode(&mut decoder, &hex("20 82")).map(|fields| fields.len()), Ok(1));
    assert_eq!(decode(&mut decoder, &hex("82")).map(|fields| fields.len()), Ok(1));
    // The sender's table has 0 octets: 512 is no reduction.
    decoder.set_limit(512);
    assert_eq!(decode(&mut decoder, &hex("82")).map(|fields| fields.len()), Ok(1));
}

/// RFC 7541 §4.3, §4.4.
#[test]
fn the_oldest_go_first() {
    let mut decoder = Decoder::new(4096);
    // Three entries of 34 octets in 102, not in 101.
    let three = [indexed(b"a", b"1"), indexed(b"b", b"2"), indexed(b"c", b"3")].concat();
    let all: Vec<Field> = [field("c", "3"), field("b", "2"), field("a", "1")].to_vec();
    decode(&mut decoder, &[&hex("3f 47")[..], &three].concat()).expect("a good block");
    assert_eq!(decoder.table_bytes(), 102);
    assert_eq!(decode(&mut decoder, &[0xbe, 0xbf, 0xc0]), Ok(all.clone()));
    // A smaller size evicts what does not fit, and that does not come back.
    assert_eq!(decode(&mut decoder, &hex("3f 46 be bf")), Ok(all[..2].to_vec()));
    assert_eq!(decoder.table_bytes(), 68);
    assert_eq!(decode(&mut decoder, &hex("3f 47 c0")), Err(Error::IndexOutOfRange));
}

/// RFC 7541 §4.4: an entry larger than the table is no error; it empties the table.
#[test]
fn an_entry_that_is_too_large_empties_the_table() {
    for (len, entries) in [(4096 - 33, 1), (4096 - 32, 0)] {
        let mut decoder = Decoder::new(4096);
        decode(&mut decoder, &indexed(b"a", b"b")).expect("a good block");
        let value = alloc::vec![b'v'; len];
        let fields = decode(&mut decoder, &indexed(b"n", &value)).expect("a good block");
        assert_eq!(fields, [(b"n".to_vec(), value)]);
        assert_eq!(decoder.table_bytes(), entries * (33 + len));
        assert_eq!(decode(&mut decoder, &[0xbf]), Err(Error::IndexOutOfRange));
    }
}

/// RFC 7541 §4.4: the name may be that of an entry that has to go for the new one.
#[test]
fn the_name_of_an_entry_that_is_evicted() {
    let name = [b'n'; 100];
    for (value, fits) in [(4096 - 132, true), (4096 - 131, false)] {
        let mut decoder = Decoder::new(4096);
        decode(&mut decoder, &indexed(&name, b"old")).expect("a good block");
        let value = alloc::vec![b'v'; value];
        let mut block = BytesMut::from(&[0x7e][..]);
        integer::write(&mut block, 0, 7, value.len());
        block.extend_from_slice(&value);
        let expected = [(name.to_vec(), value)].to_vec();
        assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
        let again = if fits { Ok(expected) } else { Err(Error::IndexOutOfRange) };
        assert_eq!(decode(&mut decoder, &[0xbe]), again);
    }
}

/// What is beyond the limit is not handed out, not even if it were small enough; but it is indexed.
#[test]
fn the_table_stays_in_step_beyond_the_limit() {
    let block = [
        indexed(b"a", b"1"),
        indexed(b"b", &[b'v'; 200]),
        indexed(b"c", b"3"),
        hex("00 01 64 01 34"),
    ]
    .concat();
    // One of 34, one of 233, two of 34 octets.
    for (limit, handed_out) in [(0, 0), (33, 0), (34, 1), (266, 1), (267, 2), (334, 3), (335, 4)] {
        let mut decoder = Decoder::new(4096);
        let mut count = 0;
        let outcome = decoder.decode(&block, limit, |_| count += 1);
        let expected = if handed_out < 4 { Decoded::TooLarge } else { Decoded::Complete };
        assert_eq!((outcome, count), (Ok(expected), handed_out), "{limit}");
        let expected = [field("c", "3"), field("a", "1")].to_vec();
        assert_eq!(decode(&mut decoder, &[0xbe, 0xc0]), Ok(expected));
    }
}

#[test]
fn every_error_has_a_message_of_its_own() {
    for (index, error) in Error::ALL.iter().enumerate() {
        let message = error.message();
        assert!(message.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'), "{message}");
        assert!(Error::ALL[..index].iter().all(|other| other.message() != message));
    }
}
