//! Bodies without end, and bodies that would grow.

use bytes::Bytes;

use super::{
    MOST,
    row::{Row, answer, answer_then, flood, ok, refused, taken},
};

/// What the client, the buffers between and its own may take of an endless body: the limit is 1 MiB.
const TAKEN: u64 = 16 << 20;

pub(super) fn rows() -> Vec<Row> {
    let zeros = || flood(vec![0; 64 << 10]);
    let bomb = bomb();
    let coded = |coding: &str, body: &[u8]| {
        let length = body.len();
        answer(ok(
            &format!("Content-Encoding: {coding}\r\nContent-Length: {length}\r\n"),
            body,
        ))
    };
    vec![
        refused(
            "an endless body",
            answer_then(ok("", ""), vec![zeros()]),
            "too_large",
        )
        .takes(TAKEN),
        refused(
            "an endless body of a great length",
            answer_then(ok("Content-Length: 1099511627776\r\n", ""), vec![zeros()]),
            "too_large",
        )
        .takes(TAKEN),
        refused(
            "an endless body of HTTP/1.0",
            answer_then("HTTP/1.0 200 OK\r\n\r\n", vec![zeros()]),
            "too_large",
        )
        .takes(TAKEN),
        refused(
            "a byte more than the limit",
            answer(ok("", vec![b'y'; MOST + 1])),
            "too_large",
        ),
        taken(
            "as much as the limit",
            answer(ok("", vec![b'y'; MOST])),
            vec![b'y'; MOST],
        ),
        taken("a gzip bomb", coded("gzip", &bomb), &bomb),
        taken(
            "a gzip bomb in a gzip bomb",
            coded("gzip, gzip", &bomb),
            &bomb,
        ),
        taken(
            "deflate",
            coded("deflate", b"x\x9c\x03\0\0\0\0\x01"),
            b"x\x9c\x03\0\0\0\0\x01",
        ),
        taken("br", coded("br", b"\x8b\x80all"), b"\x8b\x80all"),
        taken(
            "zstd",
            coded("zstd", b"\x28\xb5\x2f\xfd"),
            b"\x28\xb5\x2f\xfd",
        ),
        taken(
            "an encoding that nobody knows",
            coded("x-evil", b"all of it"),
            b"all of it",
        ),
    ]
}

/// 128 MiB of zeros in gzip, below the limit as it is: a member of 1 MiB again and again.
fn bomb() -> Bytes {
    let bomb = member().repeat(128);
    assert!(bomb.len() < MOST, "{}", bomb.len());
    bomb.into()
}

/// 1 MiB of zeros: a block of fixed codes, one literal and matches of 258 bytes at distance 1.
fn member() -> Vec<u8> {
    let mut bits = Bits::default();
    let mut left = 1_usize << 20;
    bits.put(1, 1);
    bits.put(0b01, 2);
    // Literal 0 is code 0x30 of 8 bits; codes go most significant bit first.
    bits.code(0x30, 8);
    left -= 1;
    while left >= 258 {
        // Length 258 is symbol 285, code 0xc5 of 8 bits; distance 1 is code 0 of 5 bits.
        bits.code(0xc5, 8);
        bits.code(0, 5);
        left -= 258;
    }
    for _ in 0..left {
        bits.code(0x30, 8);
    }
    bits.code(0, 7);
    let mut member = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff".to_vec();
    member.extend(bits.done());
    // CRC-32 and length of 1 MiB of zeros.
    member.extend(0xa738_ea1c_u32.to_le_bytes());
    member.extend((1_u32 << 20).to_le_bytes());
    member
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for n in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> n & 1 == 1);
            *self.bytes.last_mut().unwrap() |= bit << (self.used % 8);
            self.used += 1;
        }
    }

    fn code(&mut self, code: u32, count: u32) {
        for n in (0..count).rev() {
            self.put(code >> n & 1, 1);
        }
    }

    fn done(self) -> Vec<u8> {
        self.bytes
    }
}
