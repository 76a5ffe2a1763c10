//! Digests and signatures for requests to S3.
//!
//! A request is signed together with the digest of what it sends. For a body that is the digest of what was downloaded,
//! taken then: so nothing is hashed twice, and a store refuses bytes that changed after that, on this machine's disk or on
//! the way.

use object_store::{
    Error, Result,
    client::{
        CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
    },
};
use ring::hmac;

use super::outgoing::{Outgoing, is_stand_in};
use crate::digest::{Hasher, Sha256};

/// What S3's client signs with.
#[derive(Debug)]
pub(super) struct Crypto;

impl CryptoProvider for Crypto {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Digest::default())),
            _ => Err(unknown("digest")),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                Ok(Box::new(Hmac(hmac::Context::with_key(&key), None)))
            }
            _ => Err(unknown("digest")),
        }
    }

    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        // Google's service accounts sign with it; their client has a provider of its own.
        Err(unknown("signature"))
    }
}

fn unknown(what: &str) -> Error {
    Error::NotSupported {
        source: format!("S3 asks for no such {what}").into(),
    }
}

/// Of bytes that are there, or of those that others stand for.
#[derive(Default)]
struct Digest {
    hasher: Hasher,
    real: u64,
    standing_in: u64,
    done: Option<Sha256>,
}

impl DigestContext for Digest {
    fn update(&mut self, data: &[u8]) {
        if is_stand_in(data) {
            self.standing_in += data.len() as u64;
        } else {
            self.real += data.len() as u64;
            self.hasher.update(data);
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let digest = match self.standing_in {
            0 => std::mem::take(&mut self.hasher).finish(),
            len => Outgoing::here()
                .filter(|body| self.real == 0 && body.len() == len)
                .and_then(|body| body.sha256())
                .ok_or_else(|| Error::Generic {
                    store: "S3",
                    source: "a body's digest was asked for that was never taken".into(),
                })?,
        };
        Ok(self.done.insert(digest).as_bytes())
    }
}

struct Hmac(hmac::Context, Option<hmac::Tag>);

impl HmacContext for Hmac {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let tag = self.0.clone().sign();
        Ok(hmac::Tag::as_ref(self.1.insert(tag)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::body_of;

    fn digest(parts: &[&[u8]]) -> Result<Vec<u8>> {
        let mut context = Crypto.digest(DigestAlgorithm::Sha256)?;
        for part in parts {
            context.update(part);
        }
        context.finish().map(<[u8]>::to_vec)
    }

    #[test]
    fn what_is_there_is_hashed_and_signed_as_standards_say() {
        let abc = Sha256::of(b"abc");
        assert_eq!(digest(&[b"a", b"bc"]).unwrap(), abc.as_bytes());
        // RFC 4231, test case 2.
        let mut hmac = Crypto.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        hmac.update(b"what do ya want ");
        hmac.update(b"for nothing?");
        let expected = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95,
            0x75, 0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9,
            0x64, 0xec, 0x38, 0x43,
        ];
        assert_eq!(hmac.finish().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_stand_in_has_the_digest_of_its_body_and_none_without() {
        let body = body_of(&vec![7; 200_000]).await;
        let mut kept = None;
        Outgoing::whole(&body)
            .during(async |stand_in| {
                let parts: Vec<&[u8]> = stand_in.iter().map(|part| &part[..]).collect();
                assert_eq!(digest(&parts).unwrap(), body.sha256().as_bytes());
                assert!(digest(&parts[1..]).is_err(), "not all of it");
                let mixed = [&parts[..], &[b"x"]].concat();
                assert!(digest(&mixed).is_err(), "with something else");
                kept = Some(stand_in.clone());
            })
            .await;
        let kept = kept.unwrap();
        let parts: Vec<&[u8]> = kept.iter().map(|part| &part[..]).collect();
        assert!(digest(&parts).is_err(), "without its body");
        Outgoing::part(&body, 0, body.len())
            .during(async |_| assert!(digest(&parts).is_err(), "not hashed"))
            .await;
    }
}
