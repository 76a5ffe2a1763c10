//! Events with files to archive, all of them from one seed: a load to put a worker under.

use std::{env, ops::Range, thread};

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{amqp::Amqp, call, origin::Origin};

/// Sets the seed of every load, to repeat a run that failed.
const SEED: &str = "CALLVAULT_IT_SEED";
/// A recording that goes up in parts.
const LARGE: usize = 65 << 20;

/// Numbers that look random, the same ones for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: &Seed) -> Self {
        Self(seed.0)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range.
    pub(crate) fn within(&mut self, range: Range<usize>) -> usize {
        let width = u64::try_from(range.len()).unwrap();
        range.start + usize::try_from(self.roll() % width).unwrap()
    }

    /// One of several.
    pub(crate) fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.within(0..of.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.roll().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    pub(crate) fn id(&mut self) -> String {
        Uuid::from_u64_pair(self.roll(), self.roll()).to_string()
    }
}

/// What a run's numbers come from. It is told when the test fails.
pub(crate) struct Seed(u64);

impl Seed {
    /// The one that is set, or any.
    pub(crate) fn choose() -> Self {
        Self(env::var(SEED).map_or_else(
            |_| Uuid::new_v4().as_u64_pair().0,
            |seed| seed.parse().expect("a number in CALLVAULT_IT_SEED"),
        ))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat this run with {SEED}={}", self.0);
        }
    }
}

/// Events, and what becomes of them where nothing fails.
pub(crate) struct Load {
    pub(crate) calls: Vec<Call>,
    pub(crate) dice: Dice,
    _seed: Seed,
}

/// One event.
pub(crate) struct Call {
    pub(crate) request_id: String,
    /// What every key of its begins with.
    pub(crate) folder: String,
    /// The message.
    pub(crate) body: Bytes,
    pub(crate) files: Vec<File>,
}

/// One attachment.
pub(crate) struct File {
    /// At the origin.
    pub(crate) path: String,
    pub(crate) bucket: &'static str,
    /// In the bucket, below its prefix.
    pub(crate) key: String,
    pub(crate) bytes: Bytes,
}

impl Load {
    /// So many events, of which the first `large` have a recording of 20 MiB, at URLs that begin with
    /// `base`.
    pub(crate) fn new(base: &str, events: usize, large: usize) -> Self {
        let seed = Seed::choose();
        let mut dice = Dice::new(&seed);
        let calls = (0..events)
            .map(|n| Call::new(&mut dice, base, n < large))
            .collect();
        Self {
            calls,
            dice,
            _seed: seed,
        }
    }

    /// Has an origin serve every file.
    pub(crate) fn serve(&self, origin: &Origin) {
        for file in self.files() {
            origin.put(&file.path, file.bytes.clone(), file.content_type());
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.calls.iter().flat_map(|call| &call.files)
    }
}

impl Call {
    fn new(dice: &mut Dice, base: &str, large: bool) -> Self {
        let (id, request_id) = (dice.id(), dice.id());
        let folder = format!("2023/08/24/{id}/{request_id}");
        let words = dice.within(1..400);
        let samples = if large {
            LARGE
        } else {
            2 * dice.within(500..20_000)
        };
        let files: Vec<File> = [
            ("analysis.json", "documents", text(dice, "summary", words)),
            ("recording.wav", "recordings", wav(&dice.bytes(samples))),
            ("transcript.json", "documents", turns(dice, words)),
        ]
        .into_iter()
        .map(|(name, bucket, bytes)| File {
            path: format!("/{request_id}/{name}"),
            key: format!("{folder}/{name}"),
            bucket,
            bytes,
        })
        .collect();
        let urls: Vec<Value> = files
            .iter()
            .map(|file| json!({"url": format!("{base}{}", file.path)}))
            .collect();
        let mut event: Value = serde_json::from_str(call::ANALYZED).unwrap();
        event["request_id"] = request_id.clone().into();
        event["data"]["id"] = id.into();
        event["data"]["created_at"] = "2023-08-24T10:05:18.432652Z".into();
        event["data"]["attachments"] = urls.into();
        Self {
            request_id,
            folder,
            body: event.to_string().into(),
            files,
        }
    }

    /// The manifest's key.
    pub(crate) fn manifest(&self) -> String {
        format!("{}/manifest.json", self.folder)
    }

    /// The path of its recording at the origin.
    pub(crate) fn recording(&self) -> &str {
        &self.files[1].path
    }

    /// Publishes it as the ingress does.
    pub(crate) async fn publish(&self, amqp: &Amqp, exchange: &str) {
        amqp.publish(
            exchange,
            "call.analyzed",
            Some(&self.request_id),
            &self.body,
        )
        .await;
    }
}

impl File {
    fn content_type(&self) -> &'static str {
        if self.bucket == "recordings" {
            "audio/x-wav"
        } else {
            "application/json"
        }
    }
}

fn text(dice: &mut Dice, field: &str, words: usize) -> Bytes {
    let words: Vec<String> = (0..words).map(|_| format!("{:x}", dice.roll())).collect();
    json!({field: words.join(" ")}).to_string().into()
}

fn turns(dice: &mut Dice, turns: usize) -> Bytes {
    let turns: Vec<Value> = (0..turns)
        .map(|_| json!({"text": format!("{:x}", dice.roll())}))
        .collect();
    json!({"turns": turns}).to_string().into()
}

/// A recording with these bytes for samples, 16 bits each.
fn wav(samples: &[u8]) -> Bytes {
    let mut file = call::wav(0).to_vec();
    let (riff, data) = (file.len() - 8 + samples.len(), samples.len());
    let at = file.len() - 4;
    file[4..8].copy_from_slice(&u32::try_from(riff).unwrap().to_le_bytes());
    file[at..].copy_from_slice(&u32::try_from(data).unwrap().to_le_bytes());
    file.extend_from_slice(samples);
    file.into()
}
