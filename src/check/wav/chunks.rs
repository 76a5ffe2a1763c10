//! The walk over the chunks of a WAVE file: finds `fmt ` and `data`, judges neither.

use std::io::{self, Read, Seek, SeekFrom};

use super::Problem;

/// The most chunks that are looked at; real files have a handful before their data.
const MAX_CHUNKS: usize = 4096;

/// The bytes of a `fmt ` chunk that mean something: a `WAVEFORMATEXTENSIBLE`.
const FMT_BYTES: usize = 40;

/// A file of a known length, read a little at a time and never past that length.
pub(super) struct Bounded<'f, F> {
    file: &'f mut F,
    len: u64,
}

impl<'f, F: Read + Seek> Bounded<'f, F> {
    pub(super) fn new(file: &'f mut F, len: u64) -> Self {
        Self { file, len }
    }

    /// The bytes from `at` on: `N` of them, or those that there are.
    pub(super) fn up_to<const N: usize>(&mut self, at: u64) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(N)];
        if !bytes.is_empty() {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.read_exact(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// The id and the size at `at`, unless the file ends before.
    fn header(&mut self, at: u64) -> io::Result<Option<([u8; 4], u32)>> {
        let bytes = self.up_to::<8>(at)?;
        Ok(bytes.split_first_chunk().and_then(|(id, size)| {
            let size = size.try_into().ok()?;
            Some((*id, u32::from_le_bytes(size)))
        }))
    }

    /// The content of a chunk of `size` bytes at `body`, at most `N` bytes of it.
    fn content<const N: usize>(&mut self, body: u64, size: u64) -> io::Result<Vec<u8>> {
        let mut bytes = self.up_to::<N>(body)?;
        bytes.truncate(usize::try_from(size).unwrap_or(N));
        Ok(bytes)
    }

    /// Where the chunk after one that ends at `end` begins.
    ///
    /// A chunk of an odd size is followed by a pad byte, which some writers forget. It is taken as
    /// forgotten where the next id stands in its place: four printable characters, unless the place
    /// after it holds an id that every WAVE file may have (a pad byte need not be zero).
    fn after(&mut self, end: u64, size: u64) -> io::Result<u64> {
        if size.is_multiple_of(2) {
            return Ok(end);
        }
        let next = self.up_to::<5>(end)?;
        let padded = next.get(1..).unwrap_or_default();
        let well_known = [b"fmt ", b"data", b"fact", b"LIST"];
        let forgotten = next.len() == 5
            && next.iter().take(4).all(|byte| matches!(byte, b' '..=b'~'))
            && !well_known.iter().any(|id| *id == padded);
        Ok(if forgotten {
            end
        } else {
            end.saturating_add(1)
        })
    }
}

/// How the file says that it is a WAVE file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// All sizes have 32 bits.
    Riff,
    /// RF64 or BW64: the size of the data may stand in a `ds64` chunk, with 64 bits.
    Wide,
}

impl Container {
    /// Judges the first 12 bytes of a file, or as many as it has.
    pub(super) fn of(head: &[u8]) -> Result<Self, Problem> {
        let (magic, form) = (head.get(..4), head.get(8..12));
        let found = match (magic, form) {
            (Some(b"RIFF"), Some(b"WAVE")) => return Ok(Self::Riff),
            (Some(b"RF64" | b"BW64"), Some(b"WAVE")) => return Ok(Self::Wide),
            (Some(b"RIFX"), _) => "RIFX, the big-endian form of RIFF".to_owned(),
            // Sony Wave64 begins with a GUID whose first four bytes are these.
            (Some(b"riff"), _) => "Sony Wave64 (W64)".to_owned(),
            (Some(b"RIFF" | b"RF64" | b"BW64"), Some(form)) => {
                format!("a RIFF file of the form \"{}\"", form.escape_ascii())
            }
            _ if head.is_empty() => "an empty file".to_owned(),
            _ => format!("a file that begins with \"{}\"", head.escape_ascii()),
        };
        let detail = format!("Expected RIFF, RF64 or BW64 of the form WAVE, found {found}.");
        Err(Problem::new("wav_not_riff", detail))
    }
}

/// What the walk found.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) fmt: Option<Fmt>,
    pub(super) data: Option<Data>,
    /// How many chunks were looked at.
    seen: usize,
    /// Where the next chunk would begin.
    end: u64,
    /// The length of the file.
    len: u64,
}

impl Chunks {
    /// A sentence about why there is no chunk `id`.
    pub(super) fn missing(&self, id: &str) -> String {
        let Self { seen, end, len, .. } = self;
        if self.data.is_some() {
            return format!(
                "There is no \"{id}\" chunk before the data, and none was found after them."
            );
        }
        format!(
            "There is no \"{id}\" chunk among the {seen} chunks up to byte {end}; the file has {len} bytes."
        )
    }
}

/// What the audio is.
#[derive(Debug)]
pub(super) struct Fmt {
    /// The beginning of the `fmt ` chunk, at most [`FMT_BYTES`].
    pub(super) content: Vec<u8>,
    /// The bytes that the chunk should have.
    declared: u64,
}

impl Fmt {
    /// Whether the file ends inside it. A reader would take what is left for the older, shorter form.
    pub(super) fn is_cut(&self) -> bool {
        let meant = usize::try_from(self.declared).unwrap_or(FMT_BYTES);
        self.content.len() < meant.min(FMT_BYTES)
    }
}

/// Where the audio is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    /// Of the first byte of audio in the file.
    pub(super) offset: u64,
    /// The bytes that the writer announced; `None` where it announced none. A 0 is what it wrote
    /// before it began, and a RIFF file whose data have `0xFFFF_FFFF` bytes cannot be.
    pub(super) declared: Option<u64>,
    /// The bytes from `offset` to the end of the file.
    pub(super) arrived: u64,
}

/// Walks over the chunks until both `fmt ` and `data` are found.
///
/// The first `data` counts. Of several `fmt ` before it the last counts, as for other readers; after
/// it, the first. Data of an open length have no end to go on from, so a `fmt ` after them is lost.
pub(super) fn walk<F: Read + Seek>(
    file: &mut Bounded<'_, F>,
    container: Container,
) -> io::Result<Chunks> {
    let len = file.len;
    let mut found = Chunks {
        fmt: None,
        data: None,
        seen: 0,
        end: 12,
        len,
    };
    let mut wide_size = None;
    while found.seen < MAX_CHUNKS && (found.fmt.is_none() || found.data.is_none()) {
        let Some((id, size)) = file.header(found.end)? else {
            break;
        };
        found.seen += 1;
        let body = found.end + 8;
        let mut size = u64::from(size);
        match &id {
            b"fmt " => {
                let content = file.content::<FMT_BYTES>(body, size)?;
                let declared = size;
                found.fmt = Some(Fmt { content, declared });
            }
            b"ds64" if container == Container::Wide => {
                // The size of the whole, then that of the data, each of 64 bits.
                let sizes = file.content::<16>(body, size)?;
                let size = sizes.get(8..).and_then(<[u8]>::first_chunk);
                wide_size = size.copied().map(u64::from_le_bytes);
            }
            b"data" if found.data.is_none() => {
                let declared = match size {
                    0xFFFF_FFFF => wide_size.filter(|size| *size != u64::MAX),
                    _ => Some(size),
                };
                let declared = declared.filter(|size| *size != 0);
                found.data = Some(Data {
                    offset: body,
                    declared,
                    arrived: len - body,
                });
                size = declared.unwrap_or(u64::MAX);
            }
            _ => {}
        }
        found.end = file.after(body.saturating_add(size), size)?;
    }
    Ok(found)
}
