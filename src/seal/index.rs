//! The index of a day: JSON lines, packed with Zstandard (RFC 8878), hashed as they are written and as they are read.

use std::io::{self, BufRead, BufReader, Read, Write};

use bytes::Bytes;
use zstd::stream::{read::Decoder, write::Encoder};

use super::{
    row::{Line, Rows},
    statement::{Extent, Statement},
    tree::{self, Tree},
};
use crate::{
    audit::days::ManifestKey,
    body::{Body, Budget, WriteError, Writer},
    digest::{Hasher, Sha256},
};

/// Zstandard's own default: a tenth of the text's size, at hundreds of MB a second.
const LEVEL: i32 = 3;
/// The most that a stranger's index may make the reader remember of what it unpacks: 8 MiB, four times what ours takes.
const WINDOW_LOG: u32 = 23;
/// Packed bytes that go to the body at once.
const BATCH: usize = 256 << 10;
/// The longest line that is read: an object's bucket and key, and the short texts of the others, are well below.
const LONGEST_LINE: u64 = 128 << 10;

/// An index under way: manifests come in the order of their keys.
pub(super) struct Packer {
    encoder: Encoder<'static, Vec<u8>>,
    body: Writer,
    hasher: Hasher,
    size: u64,
    tree: Tree,
    manifests: u64,
    rows: u64,
}

/// An index that is complete.
#[derive(Debug)]
pub(super) struct Packed {
    /// It, packed.
    pub(super) body: Body,
    /// It, unpacked.
    pub(super) unpacked: Extent,
    /// Of its manifests.
    pub(super) root: Sha256,
    /// How many manifests.
    pub(super) manifests: u64,
    /// How many rows.
    pub(super) rows: u64,
}

impl Packer {
    /// An empty index, which will lie in memory while it is small, else in the spool.
    pub(super) async fn new(budget: &Budget) -> Result<Self, WriteError> {
        let mut encoder = Encoder::new(Vec::with_capacity(BATCH), LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self {
            encoder,
            body: budget.writer(None, u64::MAX, None).await?,
            hasher: Hasher::default(),
            size: 0,
            tree: Tree::default(),
            manifests: 0,
            rows: 0,
        })
    }

    /// Adds a manifest's rows.
    pub(super) async fn add(
        &mut self,
        key: &str,
        sha256: Sha256,
        rows: &Rows,
    ) -> Result<(), WriteError> {
        self.tree.push(tree::leaf(sha256, key));
        self.hasher.update(&rows.lines);
        self.size += rows.lines.len() as u64;
        self.manifests += 1;
        self.rows += rows.count;
        self.encoder.write_all(&rows.lines)?;
        if self.encoder.get_ref().len() >= BATCH {
            let packed = std::mem::replace(self.encoder.get_mut(), Vec::with_capacity(BATCH));
            self.body.write(packed.into()).await?;
        }
        Ok(())
    }

    /// The index, all of it.
    pub(super) async fn finish(mut self) -> Result<Packed, WriteError> {
        let rest = Bytes::from(self.encoder.finish()?);
        self.body.write(rest).await?;
        Ok(Packed {
            body: self.body.finish().await?,
            unpacked: Extent {
                size: self.size,
                sha256: self.hasher.finish(),
            },
            root: self.tree.root(),
            manifests: self.manifests,
            rows: self.rows,
        })
    }
}

/// Why an index is not the one that was sealed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Its bytes are others.
    #[error("it is not the one that was sealed: its size or SHA-256 differs")]
    Other,
    /// Its bytes are those of the seal, but do not hold what the seal says.
    #[error("it is the one that the seal names, but {0}: callvault made neither")]
    Contradicts(&'static str),
    /// The bytes could not be unpacked or read.
    #[error("it cannot be unpacked: {0}")]
    Unread(#[from] io::Error),
}

/// Reads an index, line by line, and compares it with what its seal says: `each` is told the manifest's lines as they
/// come, and nothing of it counts before all of it was found to be right. Blocking; memory is bounded, whatever the
/// index is.
pub(super) fn unpack(
    packed: &Body,
    seal: &Statement,
    mut each: impl FnMut(ManifestKey, Sha256, Line),
) -> Result<(), IndexError> {
    let lies = |lies| Err(IndexError::Contradicts(lies));
    if packed.len() != seal.packed.size || packed.sha256() != seal.packed.sha256 {
        return Err(IndexError::Other);
    }
    let mut decoder = Decoder::new(packed.reader())?;
    decoder.window_log_max(WINDOW_LOG)?;
    let mut lines = BufReader::with_capacity(BATCH, decoder);
    let (mut hasher, mut tree, mut line) = (Hasher::default(), Tree::default(), Vec::new());
    let (mut size, mut rows, mut manifests) = (0, 0, 0);
    let mut last: Option<(String, Sha256)> = None;
    loop {
        line.clear();
        let read = (&mut lines)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        hasher.update(&line);
        size += read as u64;
        // What unpacks to more than was sealed is not unpacked any further.
        if size > seal.unpacked.size || line.last() != Some(&b'\n') {
            return lies("it is longer, or holds what is no line");
        }
        rows += 1;
        let told = serde_json::from_slice::<Line>(&line).ok();
        let Some(told) = told.filter(Line::is_sound) else {
            return lies("it holds a line that is no row");
        };
        let (Some(key), Some(sha256)) = (
            ManifestKey::parse(&told.manifest).filter(|key| key.day == seal.day),
            Sha256::from_hex(&told.manifest_sha256),
        ) else {
            return lies("it holds a row of no manifest of the day");
        };
        let again = last
            .as_ref()
            .is_some_and(|(key, of)| *key == told.manifest && *of == sha256);
        if !again {
            if last.as_ref().is_some_and(|(key, _)| *key >= told.manifest) {
                return lies("its rows are not in the order of their manifests");
            }
            manifests += 1;
            tree.push(tree::leaf(sha256, &told.manifest));
            last = Some((told.manifest.clone(), sha256));
        }
        each(key, sha256, told);
    }
    let unpacked = Extent {
        size,
        sha256: hasher.finish(),
    };
    if unpacked != seal.unpacked {
        return lies("it unpacks to other bytes");
    }
    if (manifests, rows) != (seal.manifests, seal.rows) {
        return lies("it has another number of manifests or rows");
    }
    if tree.root() != seal.root {
        return lies("its manifests have another root");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{
        body::blocking,
        config::Limits,
        seal::{row, statement::tests::statement},
    };

    fn budget() -> Budget {
        Budget::new(&Limits {
            memory: 64 << 20,
            spool: 1 << 30,
            spool_dir: std::env::temp_dir(),
            job_time: std::time::Duration::from_mins(1),
        })
    }

    fn key(n: usize) -> ManifestKey {
        ManifestKey::parse(&format!("2023/08/24/c-{n:06}/r/manifest.json")).unwrap()
    }

    async fn pack(keys: &[ManifestKey]) -> Packed {
        let mut packer = Packer::new(&budget()).await.unwrap();
        for key in keys {
            let bytes = format!("a manifest of {key}");
            let rows = row::rows(key, bytes.as_bytes()).unwrap();
            let sha256 = Sha256::of(bytes.as_bytes());
            packer.add(&key.to_string(), sha256, &rows).await.unwrap();
        }
        packer.finish().await.unwrap()
    }

    fn sealed(packed: &Packed) -> Statement {
        Statement {
            manifests: packed.manifests,
            rows: packed.rows,
            root: packed.root,
            packed: Extent {
                size: packed.body.len(),
                sha256: packed.body.sha256(),
            },
            unpacked: packed.unpacked,
            ..statement(1, None)
        }
    }

    async fn read(body: &Body, seal: &Statement) -> Result<Vec<String>, IndexError> {
        let (body, seal) = (body.clone(), seal.clone());
        let read = blocking(move || {
            let mut keys = Vec::new();
            let read = unpack(&body, &seal, |key, _, _| keys.push(key.to_string()));
            Ok(read.map(|()| keys))
        });
        read.await.unwrap()
    }

    async fn body(bytes: Vec<u8>) -> Body {
        let mut writer = budget().writer(None, u64::MAX, None).await.unwrap();
        writer.write(bytes.into()).await.unwrap();
        writer.finish().await.unwrap()
    }

    fn all(body: &Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        body.reader().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn an_index_is_read_as_it_was_written() {
        for count in [0, 1, 2000] {
            let keys: Vec<_> = (0..count).map(key).collect();
            let packed = pack(&keys).await;
            let keys: Vec<_> = keys.iter().map(ManifestKey::to_string).collect();
            assert_eq!(read(&packed.body, &sealed(&packed)).await.unwrap(), keys);
        }
    }

    #[tokio::test]
    async fn a_large_index_lies_in_a_file() {
        let mut packer = Packer::new(&budget()).await.unwrap();
        let mut noise = 1_u64;
        let keys: Vec<_> = (0..40).map(key).collect();
        for key in &keys {
            let digits = std::iter::repeat_with(|| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                format!("{:08x}", noise >> 32)
            });
            let noise: String = digits.take(10_000).collect();
            let sha256 = Sha256::of(noise.as_bytes());
            let line = format!(
                "{{\"manifest\":\"{key}\",\"manifest_size\":1,\"manifest_sha256\":\"{sha256}\",\
                 \"status\":\"complete\",\"noise\":\"{noise}\"}}\n"
            );
            let rows = Rows {
                lines: line.into_bytes(),
                count: 1,
                status: row::Sealed::Complete,
                objects: Vec::new(),
            };
            packer.add(&key.to_string(), sha256, &rows).await.unwrap();
        }
        let packed = packer.finish().await.unwrap();
        assert!(packed.body.chunks().is_none(), "{}", packed.body.len());
        let keys: Vec<_> = keys.iter().map(ManifestKey::to_string).collect();
        assert_eq!(read(&packed.body, &sealed(&packed)).await.unwrap(), keys);
    }

    #[tokio::test]
    async fn other_tools_unpack_it_and_find_the_same_digests() {
        let packed = pack(&[key(1), key(2), key(3)]).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index.jsonl.zst");
        fs::write(&file, all(&packed.body)).unwrap();
        let mut unpacked = Command::new("zstd")
            .arg("-dc")
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let hashed = Command::new("sha256sum")
            .stdin(unpacked.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(unpacked.wait().unwrap().success());
        let said = String::from_utf8(hashed.stdout).unwrap();
        assert_eq!(said, format!("{}  -\n", packed.unpacked.sha256));
        let said = Command::new("sha256sum").arg(&file).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(
            said.starts_with(&packed.body.sha256().to_string()),
            "{said}"
        );
    }

    #[tokio::test]
    async fn an_index_with_other_bytes_is_not_unpacked() {
        let packed = pack(&[key(1), key(2)]).await;
        let seal = sealed(&packed);
        let mut bytes = all(&packed.body);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(
            read(&body(bytes).await, &seal).await,
            Err(IndexError::Other)
        ));
        let other = pack(&[key(1)]).await;
        assert!(matches!(
            read(&other.body, &seal).await,
            Err(IndexError::Other)
        ));
    }

    /// What a seal says that was made for these very bytes.
    async fn for_bytes(bytes: Vec<u8>, like: &Statement) -> (Body, Statement) {
        let body = body(bytes).await;
        let packed = Extent {
            size: body.len(),
            sha256: body.sha256(),
        };
        let seal = Statement {
            packed,
            ..like.clone()
        };
        (body, seal)
    }

    #[tokio::test]
    async fn an_index_that_was_made_for_its_seal_by_somebody_else_is_read_within_bounds() {
        let packed = pack(&[key(1), key(2)]).await;
        let (honest, text) = (
            sealed(&packed),
            zstd::decode_all(packed.body.reader()).unwrap(),
        );
        let pack = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        // 256 MiB of nothing in 25 KB, within one line or beyond the end.
        let bomb = {
            let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
            io::copy(&mut io::repeat(b'\n').take(1 << 28), &mut encoder).unwrap();
            encoder.finish().unwrap()
        };
        let far = {
            let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(27).unwrap();
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        let backwards = [lines[1], lines[0]].concat();
        let twice = [lines[0], lines[0]].concat();
        let other_day = String::from_utf8(text.clone())
            .unwrap()
            .replace("2023/08/24", "2023/08/25");
        let mut cut = all(&packed.body);
        cut.truncate(cut.len() / 2);
        for bytes in [
            bomb.clone(),
            [all(&packed.body), bomb].concat(),
            [all(&packed.body), b"more".to_vec()].concat(),
            far,
            cut,
            pack(&backwards),
            pack(&twice),
            pack(other_day.as_bytes()),
            pack(&text[..text.len() - 1]),
            pack(&[&text[..], b"{}\n"].concat()),
            pack(lines[0]),
            pack(b""),
            b"no zstd".to_vec(),
            Vec::new(),
        ] {
            let (body, seal) = for_bytes(bytes, &honest).await;
            let size = body.len();
            assert!(read(&body, &seal).await.is_err(), "{size} bytes");
        }
        // And where the seal is made to fit, too.
        for text in [backwards, twice, [&text[..], b"{}\n"].concat()] {
            let (body, mut seal) = for_bytes(pack(&text), &honest).await;
            seal.unpacked = Extent {
                size: text.len() as u64,
                sha256: Sha256::of(&text),
            };
            seal.rows = text.lines().count() as u64;
            let error = read(&body, &seal).await.unwrap_err();
            assert!(matches!(error, IndexError::Contradicts(_)), "{error}");
        }
    }
}
