//! The Huffman code, against a decoder that reads one bit at a time.

use alloc::vec;

use super::super::huffman;
use super::*;

fn encoded(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; huffman::encoded_len(text)];
    huffman::encode(text, &mut out);
    out
}

fn decoded(octets: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    huffman::decode(octets, &mut out).map(|()| out)
}

fn bit(octets: &[u8], index: usize) -> bool {
    octets[index / 8] >> (7 - index % 8) & 1 == 1
}

/// Codes as a tree: where 0 and 1 lead, or which symbol ends there.
#[derive(Default)]
struct Tree {
    nodes: Vec<[usize; 2]>,
    symbols: Vec<Option<u16>>,
}

const EOS: u16 = 256;

impl Tree {
    fn new() -> Self {
        let mut tree = Tree { nodes: vec![[0; 2]], symbols: vec![None] };
        for symbol in 0..=255 {
            // Eight times a symbol has as many octets as the symbol has bits.
            let octets = encoded(&[symbol; 8]);
            tree.insert(&octets, octets.len(), symbol.into());
        }
        tree.insert(&[0xff; 4], 30, EOS);
        tree
    }

    fn insert(&mut self, code: &[u8], bits: usize, symbol: u16) {
        let mut at = 0;
        for index in 0..bits {
            assert_eq!(self.symbols[at], None, "a prefix of {symbol} is a code");
            let branch = usize::from(bit(code, index));
            if self.nodes[at][branch] == 0 {
                self.nodes[at][branch] = self.nodes.len();
                self.nodes.push([0; 2]);
                self.symbols.push(None);
            }
            at = self.nodes[at][branch];
        }
        assert_eq!((self.nodes[at], self.symbols[at]), ([0; 2], None), "{symbol} is a prefix");
        self.symbols[at] = Some(symbol);
    }

    fn decode(&self, octets: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let (mut at, mut since, mut ones) = (0, 0, true);
        for index in 0..8 * octets.len() {
            let bit = bit(octets, index);
            at = self.nodes[at][usize::from(bit)];
            since += 1;
            ones &= bit;
            match self.symbols[at] {
                Some(EOS) => return Err(Error::HuffmanEos),
                Some(symbol) => {
                    out.push(symbol as u8);
                    (at, since, ones) = (0, 0, true);
                }
                None => {}
            }
        }
        if since < 8 && ones { Ok(out) } else { Err(Error::HuffmanPadding) }
    }
}

/// The code is complete: no bits are left that mean nothing.
#[test]
fn codes_are_complete_and_no_prefixes() {
    let tree = Tree::new();
    for (node, symbol) in tree.nodes.iter().zip(&tree.symbols) {
        assert_eq!(node.contains(&0), symbol.is_some());
    }
}

#[test]
fn any_octets_decode_as_bit_by_bit() {
    let tree = Tree::new();
    assert_eq!(decoded(b""), Ok(Vec::new()));
    for octets in 0..=u16::MAX {
        let octets = octets.to_be_bytes();
        assert_eq!(decoded(&octets[1..]), tree.decode(&octets[1..]), "{octets:x?}");
        assert_eq!(decoded(&octets), tree.decode(&octets), "{octets:x?}");
        // Behind long codes and short ones, and with the end in all places of the window.
        for len in 0..12 {
            let prefix =
                [&[0xff, 0xff, 0xfe][..], b"\x03\x29\x4a\x31\x8c\x63\x18\xc6\x31"].concat();
            let longer = [&prefix[..len], &octets].concat();
            assert_eq!(decoded(&longer), tree.decode(&longer), "{longer:x?}");
        }
    }
}

#[test]
fn every_symbol_survives_in_every_neighbourhood() {
    for first in 0..=255 {
        for second in 0..=255 {
            for text in [&[first, second][..], &[b'a', first, b'0', b'0', b'~', second, b'/', b'Z']]
            {
                assert_eq!(decoded(&encoded(text)), Ok(text.to_vec()));
            }
        }
    }
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    assert_eq!(decoded(&encoded(&all)), Ok(all));
}

/// RFC 7541 §5.2: strictly less than 8 bits, and all of them ones.
#[test]
fn padding_is_the_beginning_of_eos() {
    for text in [&b"a"[..], b"aaaaaaaa", b"0123456789abcdefghijklmnop", b"~~", b"\0\x01\x02"] {
        let good = encoded(text);
        // Eight times a text has as many octets as the text has bits.
        let padding = 8 * good.len() - encoded(&text.repeat(8)).len();
        for octets in 1..8 {
            let longer = [&good[..], &vec![0xff; octets]].concat();
            let eos = padding + 8 * octets >= 30;
            let error = if eos { Error::HuffmanEos } else { Error::HuffmanPadding };
            assert_eq!(decoded(&longer), Err(error), "{octets} octets more than {text:?}");
        }
    }
    // `a` is 00011, and so three bits are padding.
    assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
    for padding in 0..7 {
        assert_eq!(decoded(&[0b0001_1000 | padding]), Err(Error::HuffmanPadding));
    }
}

#[test]
fn eos_is_refused_anywhere() {
    assert_eq!(decoded(&[0xff; 4]), Err(Error::HuffmanEos));
    // Behind 0 to 24 symbols of five bits: 1 to 4 octets hold EOS in all positions.
    for before in 0..24 {
        let mut bits: Vec<bool> =
            (0..before).flat_map(|_| [false, false, false, true, true]).collect();
        bits.extend([true; 30]);
        bits.extend((0..5).map(|_| false));
        bits.resize(bits.len().next_multiple_of(8), true);
        let octets: Vec<u8> = bits
            .chunks(8)
            .map(|bits| bits.iter().fold(0, |octet, &bit| octet << 1 | u8::from(bit)))
            .collect();
        assert_eq!(decoded(&octets), Err(Error::HuffmanEos), "after {before}");
    }
}
