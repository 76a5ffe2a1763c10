//! Events out of files: one JSON document, or one a line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;

use super::Failure;

/// Events to read, from files or standard input.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Files of events: one JSON document, or one per line. `-` is standard input.
    #[arg(value_name = "FILE", required = true, value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
}

/// One event, and where it stood.
#[derive(Debug)]
pub(super) struct Found {
    /// `FILE`, or `FILE:LINE`.
    pub(super) place: String,
    pub(super) body: Bytes,
}

type Input = Box<dyn BufRead + Send>;

impl Files {
    /// Opens all files before the first event is read: a misspelt name costs nothing but its message.
    fn open(&self) -> Result<Events, Failure> {
        let inputs = self
            .files
            .iter()
            .map(|path| Ok((path.display().to_string(), open(path)?)));
        let inputs: io::Result<Vec<_>> = inputs.collect();
        let mut inputs = inputs.map_err(Failure::usage)?;
        inputs.reverse();
        Ok(Events {
            inputs,
            lines: None,
        })
    }

    /// Reads the events on a thread of its own: input may be slow, and jobs in flight go on meanwhile.
    pub(super) fn stream(&self) -> Result<impl Stream<Item = io::Result<Found>> + use<>, Failure> {
        let events = self.open()?;
        let (sender, receiver) = mpsc::channel(1);
        std::thread::spawn(move || {
            for found in events {
                if sender.blocking_send(found).is_err() {
                    break;
                }
            }
        });
        Ok(stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        }))
    }

    /// A progress bar on a terminal, nothing in a pipe. Its unit is a byte of input.
    pub(super) fn progress(&self) -> ProgressBar {
        if !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match self.total_bytes() {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {percent:>3}%  {bytes} of {total_bytes} of events  {elapsed_precise}, {eta} left",
            ),
            None => (
                ProgressBar::no_length(),
                "{spinner} {bytes} of events  {elapsed_precise}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// The length of all files together in bytes, if each one has a length.
    fn total_bytes(&self) -> Option<u64> {
        let length = |path: &PathBuf| {
            path.metadata()
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|file| file.len())
        };
        self.files.iter().map(length).sum()
    }
}

fn open(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            Err(io::ErrorKind::IsADirectory.into())
        } else {
            Ok(file)
        }
    });
    let file = file.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot read {}: {error}", path.display()),
        )
    })?;
    Ok(Box::new(BufReader::new(file)))
}

/// Reads events one by one; only a JSON document that spans lines is held whole.
struct Events {
    /// The next file is the last.
    inputs: Vec<(String, Input)>,
    lines: Option<Lines>,
}

/// A file of one event a line.
struct Lines {
    name: String,
    input: Input,
    number: usize,
}

impl Iterator for Events {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(lines) = &mut self.lines {
                match lines.next() {
                    Some(found) => return Some(found),
                    None => self.lines = None,
                }
            }
            let (name, input) = self.inputs.pop()?;
            match start(name, input) {
                Ok(Start::Document(found)) => return Some(Ok(found)),
                Ok(Start::Lines(lines)) => self.lines = Some(lines),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

enum Start {
    Document(Found),
    Lines(Lines),
}

/// Some editors begin a file with a byte order mark; no JSON does.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Tells the two forms apart by the first line that is not blank: JSON by itself, or the beginning of a
/// document. A file that is neither is read by lines, so that one broken line spoils no other.
fn start(name: String, mut input: Input) -> io::Result<Start> {
    let mut head = Vec::new();
    while head.trim_ascii().is_empty() {
        if input.read_until(b'\n', &mut head)? == 0 {
            return Ok(Start::Lines(Lines::new(name, Box::new(io::empty()))));
        }
    }
    if head.starts_with(BOM) {
        head.drain(..BOM.len());
    }
    if is_json(&head) {
        return Ok(Start::Lines(Lines::new(
            name,
            Box::new(io::Cursor::new(head).chain(input)),
        )));
    }
    input.read_to_end(&mut head)?;
    if is_json(&head) || !head.split(|byte| *byte == b'\n').any(is_json) {
        return Ok(Start::Document(Found {
            place: name,
            body: head.into(),
        }));
    }
    Ok(Start::Lines(Lines::new(
        name,
        Box::new(io::Cursor::new(head)),
    )))
}

fn is_json(text: impl AsRef<[u8]>) -> bool {
    serde_json::from_slice::<IgnoredAny>(text.as_ref()).is_ok()
}

impl Lines {
    fn new(name: String, input: Input) -> Self {
        Self {
            name,
            input,
            number: 0,
        }
    }

    /// The next line that is not blank, without its newline.
    fn next(&mut self) -> Option<io::Result<Found>> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            match self.input.read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(error)),
                Ok(0) => return None,
                Ok(_) => {}
            }
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.trim_ascii().is_empty() {
                let place = format!("{}:{}", self.name, self.number);
                return Some(Ok(Found {
                    place,
                    body: Bytes::copy_from_slice(line),
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Vec<(String, String)> {
        let input: Input = Box::new(text.as_bytes());
        Events {
            inputs: vec![("f".into(), input)],
            lines: None,
        }
        .map(Result::unwrap)
        .map(|found| (found.place, String::from_utf8(found.body.to_vec()).unwrap()))
        .collect()
    }

    fn places(text: &'static str) -> Vec<String> {
        read(text).into_iter().map(|(place, _)| place).collect()
    }

    #[test]
    fn a_document_may_span_lines() {
        let text = "{\n \"event\": 1\n}\n";
        assert_eq!(read(text), [("f".to_owned(), text.to_owned())]);
    }

    #[test]
    fn each_line_is_an_event_without_its_newline() {
        let expected = [
            ("f:1".into(), "{\"a\":1}".into()),
            ("f:3".into(), "{\"b\":2}".into()),
        ];
        assert_eq!(read("{\"a\":1}\r\n\n{\"b\":2}\n"), expected);
        assert_eq!(places("{\"a\":1}"), ["f:1"]);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(
            read("\u{feff}{\"a\":1}\n"),
            [("f:1".into(), "{\"a\":1}".into())]
        );
        assert_eq!(read("\u{feff}{\n}"), [("f".into(), "{\n}".into())]);
    }

    #[test]
    fn a_broken_line_spoils_no_other() {
        assert_eq!(places("{broken\n{\"b\":2}\n"), ["f:1", "f:2"]);
        assert_eq!(places("{\"b\":2}\n{broken\n"), ["f:1", "f:2"]);
        assert_eq!(places("{broken\nand more"), ["f"]);
        assert_eq!(places("\n \n"), [""; 0]);
    }
}
