//! What whoever seals or verifies knows from elsewhere: keys, and roots that were noted.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};

use super::Failure;
use crate::{
    digest::Sha256,
    seal::{PublicKey, Seal},
};

#[derive(Debug, clap::Args)]
pub(super) struct Trust {
    /// Who may have signed: a public key as `openssl pkey -pubout` writes it; may be given several times.
    #[arg(
        long = "public-key",
        value_name = "FILE",
        env = "CALLVAULT_SEAL_PUBLIC_KEY"
    )]
    public_keys: Vec<PathBuf>,
    /// A root that `callvault seal` printed: a seal that has it must still be there. May be given several times.
    #[arg(long = "expect-root", value_name = "HEX", value_parser = root)]
    roots: Vec<Sha256>,
    /// A file with such roots, one a line; `seal` adds those that it makes. Keep it where nobody who may write to the
    /// archive can write.
    #[arg(long = "roots", value_name = "FILE")]
    noted: Option<PathBuf>,
}

/// What [`Trust`] leads to.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) keys: Vec<PublicKey>,
    pub(super) roots: Vec<Sha256>,
}

fn root(text: &str) -> Result<Sha256, &'static str> {
    Sha256::from_hex(text).ok_or("a root is 64 digits of lower-case hex")
}

impl Trust {
    /// Reads the files. To one that is `added` to, and not there yet, nothing was noted so far.
    pub(super) fn read(&self, added: bool) -> Result<Trusted, Failure> {
        let keys = self.public_keys.iter().map(|file| PublicKey::read(file));
        let keys = keys.collect::<Result<_, _>>().map_err(Failure::usage)?;
        let mut roots = self.roots.clone();
        if let Some(file) = &self.noted {
            let text = match fs::read_to_string(file) {
                Err(error) if added && error.kind() == io::ErrorKind::NotFound => String::new(),
                read => read
                    .with_context(|| format!("{}: cannot be read", file.display()))
                    .map_err(Failure::usage)?,
            };
            roots.extend(parse(&text, file)?);
            if added {
                open(file).map_err(Failure::usage)?;
            }
        }
        Ok(Trusted { keys, roots })
    }

    /// Whether it is said who may have signed.
    pub(super) fn has_keys(&self) -> bool {
        !self.public_keys.is_empty()
    }

    /// Whether a seal has to be there.
    pub(super) fn has_roots(&self) -> bool {
        !self.roots.is_empty() || self.noted.is_some()
    }

    /// Notes the root of a new seal.
    pub(super) fn note(&self, seal: &Seal) -> Result<(), Failure> {
        let Some(file) = &self.noted else {
            return Ok(());
        };
        let statement = &seal.statement;
        let line = format!("{} {} {}\n", seal.sha256, statement.sequence, statement.day);
        let noted = open(file).and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            Ok(file.sync_all()?)
        });
        let lost = || format!("the seal is made, and its root could not be noted: {line}");
        noted.with_context(lost).map_err(Failure::unreachable)
    }
}

fn open(file: &Path) -> anyhow::Result<File> {
    let open = File::options().create(true).append(true).open(file);
    open.with_context(|| format!("{}: cannot be written to", file.display()))
}

/// The first word of each line; what follows is for people, and so are lines that begin with `#`.
fn parse(text: &str, file: &Path) -> Result<Vec<Sha256>, Failure> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.starts_with('#'));
    let words = lines.filter_map(|(at, line)| Some((at, line.split_whitespace().next()?)));
    let root = |(at, word)| {
        root(word).map_err(|what| Failure::usage(anyhow!("{}:{}: {what}", file.display(), at + 1)))
    };
    words.map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_the_first_words_of_lines() {
        let one = Sha256::of(b"1");
        let text = format!("# noted at night\n\n{one} 1 2023-08-24\n");
        let file = Path::new("roots");
        assert_eq!(parse(&text, file).unwrap(), [one]);
        let error = parse(&format!("{text}{one}0"), file).unwrap_err().error;
        assert!(error.to_string().starts_with("roots:4: "), "{error}");
    }
}
