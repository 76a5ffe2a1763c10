//! The short runs: the corpus, then inputs made of it.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{cost, target};

/// Has other inputs made than usual.
const SEED: &str = "CALLVAULT_FUZZ_SEED";
/// The longest input that is made, in bytes.
const LONGEST: usize = 16 << 10;
/// How many inputs are made, on a machine that is not too busy.
const MADE: usize = 20_000;
/// After this no more are.
const ENOUGH: Duration = Duration::from_secs(4);

/// Replays the corpus of a target, and goes on from there.
pub(crate) fn run(name: &str) {
    // Memory is counted for the whole process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    let corpus = corpus(name);
    for (file, bytes) in &corpus {
        attempt(name, bytes, &file.display().to_string());
    }
    let seed = env::var(SEED).map_or(1, |seed| seed.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let began = Instant::now();
    for made in 0..MADE {
        if began.elapsed() > ENOUGH {
            break;
        }
        let input = make(&inputs, &mut rng);
        attempt(name, &input, &format!("number {made} of {SEED}={seed}"));
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let files = fs::read_dir(dir.join(name)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    // As folders list them, they are in another order on another machine.
    files.sort();
    assert!(!files.is_empty(), "{name} has no corpus");
    let read = |file: PathBuf| {
        let bytes = fs::read(&file).unwrap();
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

fn attempt(name: &str, input: &[u8], which: &str) {
    let work = AssertUnwindSafe(|| cost::in_time(|| target(name)(input)));
    if let Err(panic) = catch_unwind(work) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-failed");
        let file = dir.join(name);
        let kept = fs::create_dir_all(dir).and_then(|()| fs::write(&file, input));
        eprintln!(
            "{name} failed for {which}, left in {}: {kept:?}",
            file.display()
        );
        resume_unwind(panic);
    }
}

/// An input made of one or two others by a few changes.
fn make(inputs: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut made = rng.choice(inputs).unwrap().clone();
    for _ in 0..rng.usize(1..6) {
        change(&mut made, inputs, rng);
    }
    made.truncate(LONGEST);
    made
}

fn change(made: &mut Vec<u8>, inputs: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(0..=made.len());
    let end = at + rng.usize(0..=(made.len() - at).min(64));
    match rng.u8(0..9) {
        0 => made.truncate(at),
        1 => drop(made.drain(at..end)),
        2 => made.insert(at, rng.u8(..)),
        3 => {
            let again = made[at..end].to_vec();
            made.splice(at..at, again);
        }
        4 => {
            let other = rng.choice(inputs).unwrap();
            let from = rng.usize(0..=other.len());
            made.truncate(at);
            made.extend_from_slice(&other[from..]);
        }
        5 => {
            let other = rng.choice(inputs).unwrap();
            let from = rng.usize(0..=other.len());
            let part = &other[from..other.len().min(from + 64)];
            made.splice(at..at, part.iter().copied());
        }
        6 if made.len() >= at + 4 => {
            // A length, most likely at its extremes.
            let number = *rng.choice(&NUMBERS).unwrap();
            made[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        7 if at < made.len() => made[at] = rng.u8(b' '..=b'~'),
        _ if at < made.len() => made[at] ^= 1 << rng.u8(0..8),
        _ => {}
    }
}

const NUMBERS: [u32; 9] = [
    0,
    1,
    2,
    0x7fff_f000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x0001_0001,
];
