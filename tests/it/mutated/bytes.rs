//! Changes to bytes that know nothing of what they are.

use crate::support::load::Dice;

/// Lengths as they should not be.
const LENGTHS: [u32; 9] = [
    0,
    1,
    0x7fff_f000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_fffe,
    0xffff_ffff,
    0x0100_0000,
];

/// One to three changes, some of them with a part of another input.
pub(super) fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..dice.within(1..4) {
        let at = dice.within(0..bytes.len() + 1);
        let end = at + dice.within(0..(bytes.len() - at).min(200) + 1);
        match dice.within(0..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let count = dice.within(1..9);
                let inserted = dice.bytes(count);
                bytes.splice(at..at, inserted);
            }
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.within(0..other.len() + 1)..]);
            }
            5 if at + 4 <= bytes.len() => {
                let length = dice.one_of(&LENGTHS).to_le_bytes();
                bytes[at..at + 4].copy_from_slice(&length);
            }
            6 if at < bytes.len() => bytes[at] = dice.bytes(1)[0],
            _ if at < bytes.len() => bytes[at] ^= 1 << dice.within(0..8),
            _ => {}
        }
    }
}
