//! Mutated recordings and JSON files, and other readers' opinion of those that passed.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{audit::Kept, bytes::mutate};
use crate::support::load::Dice;

/// Recordings within what telephony has, so that a player can be asked about each that passes.
pub(super) const KINDS: &str = r#"
[attachments.recording]
file = "recording.wav"
check = "wav"
bucket = "recordings"
wav = { channels = [1, 2], sample_rates_hz = [8000, 16000, 44100] }
"#;

/// Tag, bytes of a block of one channel, and bits: PCM and float of each width, A-law, mu-law, ADPCM, GSM.
const CODECS: [(u16, u16, u16); 11] = [
    (1, 1, 8),
    (1, 2, 16),
    (1, 3, 24),
    (1, 4, 32),
    (3, 4, 32),
    (3, 8, 64),
    (6, 1, 8),
    (7, 1, 8),
    (2, 256, 4),
    (0x11, 256, 4),
    (0x31, 65, 0),
];

/// A recording, of which any part may be wrong.
pub(super) fn recording(dice: &mut Dice) -> Vec<u8> {
    let other = file(&chunks(dice));
    let mut chunks = chunks(dice);
    match dice.within(0..8) {
        0 => {
            let (one, another) = (dice.within(0..chunks.len()), dice.within(0..chunks.len()));
            chunks.swap(one, another);
        }
        1 => drop(chunks.remove(dice.within(0..chunks.len()))),
        2 => chunks.push(chunks[dice.within(0..chunks.len())].clone()),
        // A chunk's own size, and what of its content it is.
        3 => {
            let at = dice.within(0..chunks.len());
            let sizes = [0, 1, 0x7fff_f000, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff_u32];
            let size = *dice.one_of(&sizes);
            chunks[at][4..8].copy_from_slice(&size.to_le_bytes());
        }
        4 => {
            let at = dice.within(0..chunks.len());
            let byte = dice.within(0..chunks[at].len().min(28));
            chunks[at][byte] ^= 1 << dice.within(0..8);
        }
        // As it should be.
        5 => return file(&chunks),
        _ => {
            let mut file = file(&chunks);
            // In the header, more often than not.
            let mut rest = if dice.within(0..3) > 0 {
                file.split_off(60)
            } else {
                Vec::new()
            };
            mutate(dice, &mut file, &other);
            file.append(&mut rest);
            return file;
        }
    }
    file(&chunks)
}

fn chunks(dice: &mut Dice) -> Vec<Vec<u8>> {
    let &(tag, block, bits) = dice.one_of(&CODECS);
    let channels = if tag == 0x31 {
        1
    } else {
        *dice.one_of(&[1_u16, 2])
    };
    let rate = *dice.one_of(&[8000_u32, 16000, 44100]);
    let align = block * channels;
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(rate.to_le_bytes());
    fmt.extend((rate * u32::from(align)).to_le_bytes());
    fmt.extend(align.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    match tag {
        // Samples of a block; the coefficients of Microsoft's ADPCM are always these.
        2 => {
            fmt.extend([32, 0]);
            fmt.extend(500_u16.to_le_bytes());
            fmt.extend(7_u16.to_le_bytes());
            for pair in [
                [256_i16, 0],
                [512, -256],
                [0, 0],
                [192, 64],
                [240, 0],
                [460, -208],
                [392, -232],
            ] {
                fmt.extend(pair.into_iter().flat_map(i16::to_le_bytes));
            }
        }
        0x11 => fmt.extend([2, 0, 0xf9, 1]),
        0x31 => fmt.extend([2, 0, 0x40, 1]),
        _ => {}
    }
    let blocks = dice.within(1..20);
    let mut data = Vec::new();
    for _ in 0..blocks {
        // Not random where a block has a header: it would hold no state that a decoder could be in.
        data.extend(vec![0; usize::from(align)]);
    }
    let list = dice.within(0..40);
    vec![
        chunk(*b"fmt ", &fmt),
        chunk(*b"LIST", &dice.bytes(list)),
        chunk(*b"data", &data),
        chunk(*b"note", b"as it came"),
    ]
}

fn chunk(id: [u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&id, &size, content, &vec![0; content.len() % 2]].concat()
}

fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let size = u32::try_from(4 + chunks.len()).unwrap().to_le_bytes();
    [b"RIFF", &size[..], b"WAVE", &chunks].concat()
}

/// Of each recording that was archived and that sox can open, it finds the manifest's channels, rate and length.
pub(super) fn sox_agrees(archive: &Path, kept: &[Kept]) {
    let (mut agreed, mut asked) = (0, 0);
    for kept in kept.iter().filter(|kept| kept.status == "archived") {
        let check = kept.check.as_ref().unwrap();
        let file = archive.join(&kept.object.as_ref().unwrap().key);
        if !is_in_order(&fs::read(&file).unwrap()) {
            continue;
        }
        asked += 1;
        let answers = ["-c", "-r", "-D"].map(|question| soxi(question, &file));
        let [Some(channels), Some(rate), Some(seconds)] = answers else {
            // It asks for more than others: a pad byte, the one value that a field can have.
            continue;
        };
        agreed += 1;
        let of = |field: &str| check[field].as_f64().unwrap();
        let differ = |found: f64, field| (found - of(field)).abs();
        assert!(differ(channels, "channels") < 0.1, "{check}: {channels}");
        assert!(differ(rate, "sample_rate_hz") < 0.1, "{check}: {rate}");
        let open = check["unsized"] == true;
        let of_length = differ(seconds * 1000.0, "duration_ms");
        assert!(open || of_length < 1.0, "{check}: {seconds} s");
    }
    assert!(agreed * 4 > asked * 3, "sox opens {agreed} of {asked}");
}

/// A number, where sox can open the file.
fn soxi(question: &str, file: &Path) -> Option<f64> {
    let output = Command::new("soxi").arg(question).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("soxi: {error}; run ./tests/run"));
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// Whether there is one format, before the data: sox takes the first, and wants it first.
fn is_in_order(file: &[u8]) -> bool {
    let at = |id: &[u8]| file.windows(4).position(|here| here == id).unwrap();
    let formats = file[..at(b"data")]
        .windows(4)
        .filter(|here| here == b"fmt ");
    formats.count() == 1
}

/// An analysis, of which anything may be wrong.
pub(super) fn analysis(dice: &mut Dice) -> Vec<u8> {
    let words = dice.id();
    let analysis = json!({
        "summary": format!("„{words}“ \u{1f600}\u{2028}\u{0}"), "score": 0.25, "count": 12_345_678_901_234_567_890_u64,
        "topics": ["a", {"b": [null, true, -1.5e-7]}],
    });
    mutated(dice, analysis, "score")
}

/// A transcript, of which anything may be wrong.
pub(super) fn transcript(dice: &mut Dice) -> Vec<u8> {
    let turns: Vec<Value> = (0..dice.within(0..9))
        .map(|n| json!({"speaker": "agent", "text": dice.id(), "start": n}))
        .collect();
    let list = *dice.one_of(&["turns", "segments", "items"]);
    mutated(dice, json!({list: turns}), list)
}

fn mutated(dice: &mut Dice, mut value: Value, field: &str) -> Vec<u8> {
    let odd = [
        json!(null),
        json!(7),
        json!([7]),
        json!({"text": 7}),
        json!([{"text": "a"}, {}]),
        json!(""),
    ];
    match dice.within(0..6) {
        0 => value[field] = dice.one_of(&odd).clone(),
        1 => value = dice.one_of(&odd).clone(),
        2 => return odd_text(dice, &value.to_string(), field),
        // As it should be.
        3 => {}
        _ => {
            let (mut bytes, other) = (value.to_string().into_bytes(), value.to_string());
            mutate(dice, &mut bytes, other.as_bytes());
            return bytes;
        }
    }
    value.to_string().into_bytes()
}

/// JSON text, and what looks like it.
fn odd_text(dice: &mut Dice, text: &str, field: &str) -> Vec<u8> {
    let levels = *dice.one_of(&[100, 126, 127, 128, 129, 5000]);
    let first = |member: String| text.replacen('{', &format!("{{{member},"), 1);
    let many: Vec<String> = (0..5000).map(|n| format!("\"{n}\":{n}")).collect();
    match dice.within(0..11) {
        0 => first(format!(
            "\"deep\":{}{}",
            "[".repeat(levels),
            "]".repeat(levels)
        )),
        1 => first(format!(
            "\"deep\":{}1{}",
            "{\"a\":".repeat(levels),
            "}".repeat(levels)
        )),
        2 => first(format!("\"{field}\":1")),
        3 => first("\"huge\":1e999".into()),
        4 => first(format!("\"long\":{}", "9".repeat(400))),
        5 => first("\"alone\":\"\\ud800\"".into()),
        6 => first(many.join(",")),
        7 => format!("\u{feff}{text}"),
        8 => format!("{text}{text}"),
        9 => first("\"nan\":NaN".into()),
        _ => return text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    }
    .into_bytes()
}

/// What was archived as JSON, Python reads as the object or the list that it should be.
pub(super) fn python_agrees(archive: &Path, kept: &[Kept]) {
    const READ: &str = r#"
import json, sys
def refuse(text): raise ValueError(text)
for path in sys.stdin.read().splitlines():
    with open(path, encoding="utf-8") as file:
        value = json.load(file, parse_constant=refuse)
    if "analysis" in path.rsplit("/", 1)[1]:
        assert isinstance(value, dict) and value, path
    else:
        lists = [value] if isinstance(value, list) else list(value.values())
        assert any(isinstance(turns, list) for turns in lists), path
"#;
    let paths = kept
        .iter()
        .filter(|kept| kept.status == "archived")
        .map(|kept| {
            archive
                .join(&kept.object.as_ref().unwrap().key)
                .display()
                .to_string()
        });
    let list = archive.join("archived.txt");
    fs::write(&list, paths.collect::<Vec<_>>().join("\n")).unwrap();
    let list = fs::File::open(list).unwrap();
    let output = Command::new("python3")
        .args(["-c", READ])
        .stdin(list)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
}
