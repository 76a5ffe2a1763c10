//! Keys and signatures: Ed25519 (RFC 8032), in the files that `openssl genpkey -algorithm ed25519` and
//! `openssl pkey -pubout` write.

use std::{
    fmt, fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// What stands before the 32 bytes of an Ed25519 key in a `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// The longest key file that is read, in bytes.
const LONGEST: u64 = 64 << 10;
/// What a signature says that it is.
const ALGORITHM: &str = "ed25519";

/// A signature in a seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    algorithm: String,
    /// The fingerprint of the key that made it, by its own account: which of several to try. It proves nothing.
    pub public_key: String,
    value: String,
}

/// Who may sign.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Who can tell whether it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// Why a file is no key.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct KeyError {
    file: PathBuf,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot be read: {0}")]
    Unread(#[from] io::Error),
    #[error(
        "its key is encrypted, and nobody is asked for a passphrase: write it without one \
         (openssl pkey -in FILE -out NEW), in a file that only callvault's user can read"
    )]
    Encrypted,
    #[error(
        "it holds no private key in PKCS#8 (\"BEGIN PRIVATE KEY\"): make one with \
         openssl genpkey -algorithm ed25519"
    )]
    NoPrivateKey,
    #[error(
        "it holds no public key (\"BEGIN PUBLIC KEY\"): make it with openssl pkey -in KEY -pubout"
    )]
    NoPublicKey,
    #[error("its key is not an Ed25519 key: make one with openssl genpkey -algorithm ed25519")]
    OtherAlgorithm,
}

impl SigningKey {
    /// Reads a private key, and says whether others than its owner may read it too.
    pub fn read(file: &Path) -> Result<(Self, bool), KeyError> {
        let wrong = |why| KeyError {
            file: file.to_owned(),
            why,
        };
        let pem = read(file).map_err(|error| wrong(error.into()))?;
        let exposed = exposed(file).map_err(|error| wrong(error.into()))?;
        let pair = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| {
            let text = String::from_utf8_lossy(&pem);
            let encrypted = text.contains("BEGIN ENCRYPTED PRIVATE KEY");
            wrong(if encrypted {
                Why::Encrypted
            } else {
                Why::NoPrivateKey
            })
        })?;
        // openssl writes no public key beside the private one, so there is nothing to compare it with.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pair.secret_pkcs8_der());
        let pair = pair.map_err(|_| wrong(Why::OtherAlgorithm))?;
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref());
        let public = PublicKey(public.map_err(|_| wrong(Why::OtherAlgorithm))?);
        Ok((Self { pair, public }, exposed))
    }

    /// Its other half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a text.
    pub fn sign(&self, text: &str) -> Signature {
        Signature {
            algorithm: ALGORITHM.into(),
            public_key: self.public.fingerprint().to_string(),
            value: BASE64_STANDARD.encode(self.pair.sign(text.as_bytes())),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {}", self.public.fingerprint())
    }
}

impl PublicKey {
    /// Reads a public key.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let wrong = |why| KeyError {
            file: file.to_owned(),
            why,
        };
        let pem = read(file).map_err(|error| wrong(error.into()))?;
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(&pem);
        let spki = spki.map_err(|_| wrong(Why::NoPublicKey))?;
        let key = spki.strip_prefix(&SPKI).unwrap_or_default();
        let key = key.try_into().map_err(|_| wrong(Why::OtherAlgorithm))?;
        Ok(Self(key))
    }

    /// The SHA-256 of its DER: of what `openssl pkey -pubin -outform DER` writes.
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&[&SPKI[..], &self.0].concat())
    }

    /// Whether a signature says that it is this key's.
    pub fn is_named_by(&self, signature: &Signature) -> bool {
        signature.public_key == self.fingerprint().to_string()
    }

    /// Whether this key signed a text.
    pub fn verifies(&self, text: &str, signature: &Signature) -> bool {
        let Ok(value) = BASE64_STANDARD.decode(&signature.value) else {
            return false;
        };
        signature.algorithm == ALGORITHM
            && UnparsedPublicKey::new(&ED25519, &self.0)
                .verify(text.as_bytes(), &value)
                .is_ok()
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(file)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(text)
}

fn exposed(file: &Path) -> io::Result<bool> {
    Ok(fs::metadata(file)?.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::{path::PathBuf, process::Command};

    use tempfile::TempDir;

    use super::*;

    /// A key as openssl makes it, and its public half.
    pub(in crate::seal) fn key(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (private, public) = (dir.join(name), dir.join(format!("{name}.pub")));
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", text(&private)]);
        openssl(&[
            "pkey",
            "-in",
            text(&private),
            "-pubout",
            "-out",
            text(&public),
        ]);
        (private, public)
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    fn openssl(arguments: &[&str]) -> String {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn dir() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn openssl_verifies_what_is_signed_and_is_verified() {
        let dir = dir();
        let (private, public) = key(dir.path(), "a");
        let (signing, exposed) = SigningKey::read(&private).unwrap();
        assert!(!exposed);
        let signature = signing.sign("what is signed\n");
        let read = PublicKey::read(&public).unwrap();
        assert_eq!(&read, signing.public());
        assert!(read.is_named_by(&signature) && read.verifies("what is signed\n", &signature));
        assert!(!read.verifies("what is signed", &signature));

        let (statement, value) = (dir.path().join("statement"), dir.path().join("value"));
        fs::write(&statement, "what is signed\n").unwrap();
        fs::write(&value, BASE64_STANDARD.decode(&signature.value).unwrap()).unwrap();
        let verify = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"];
        let files = [
            text(&public),
            "-in",
            text(&statement),
            "-sigfile",
            text(&value),
        ];
        let said = openssl(&[&verify[..], &files].concat());
        assert!(said.contains("Signature Verified Successfully"), "{said}");

        let sign = ["pkeyutl", "-sign", "-rawin", "-inkey", text(&private)];
        openssl(&[&sign[..], &["-in", text(&statement), "-out", text(&value)]].concat());
        // Ed25519 signs the same text alike.
        assert_eq!(
            BASE64_STANDARD.encode(fs::read(&value).unwrap()),
            signature.value
        );

        let der = dir.path().join("der");
        openssl(&[
            "pkey",
            "-pubin",
            "-in",
            text(&public),
            "-outform",
            "DER",
            "-out",
            text(&der),
        ]);
        assert_eq!(Sha256::of(&fs::read(der).unwrap()), read.fingerprint());
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        // Section 7.1, test 2: its secret key in the PKCS#8 of RFC 8410.
        let dir = dir();
        let file = dir.path().join("key");
        let secret = [
            0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11,
            0x4e, 0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed,
            0x4f, 0xb8, 0xa6, 0xfb,
        ];
        let head = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let pem = BASE64_STANDARD.encode([&head[..], &secret].concat());
        fs::write(
            &file,
            format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"),
        )
        .unwrap();
        let signature = SigningKey::read(&file).unwrap().0.sign("\u{72}");
        let value = BASE64_STANDARD.decode(signature.value).unwrap();
        let halves = value.as_chunks::<32>().0.iter().map(|half| {
            let digits = half.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<Vec<_>>().concat()
        });
        assert_eq!(
            halves.collect::<Vec<_>>().concat(),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn a_file_that_is_no_such_key_is_refused_with_what_to_do() {
        let dir = dir();
        let (private, public) = key(dir.path(), "a");
        let file = |name: &str| dir.path().join(name);
        openssl(&[
            "genpkey",
            "-algorithm",
            "x25519",
            "-out",
            text(&file("x25519")),
        ]);
        let locked = file("locked");
        let lock = ["-aes256", "-passout", "pass:x", "-out", text(&locked)];
        openssl(&[&["pkey", "-in", text(&private)], &lock[..]].concat());
        fs::write(file("empty"), "").unwrap();
        for (name, says) in [
            ("x25519", "not an Ed25519 key"),
            ("locked", "is encrypted"),
            ("empty", "no private key"),
            ("a.pub", "no private key"),
            ("none", "cannot be read"),
        ] {
            let error = SigningKey::read(&file(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(says), "{error}");
        }
        let error = PublicKey::read(&private).unwrap_err().to_string();
        assert!(error.contains("-pubout"), "{error}");
        assert!(PublicKey::read(&public).is_ok());
    }

    #[test]
    fn a_private_key_that_others_can_read_is_told_of() {
        let dir = dir();
        let (private, _) = key(dir.path(), "a");
        fs::set_permissions(&private, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(SigningKey::read(&private).unwrap().1);
    }
}
