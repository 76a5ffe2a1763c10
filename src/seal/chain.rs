//! All seals of an archive, one behind the other: what they are by their own account, and what proves it.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::TryStreamExt;

use super::{Flaw, PREFIX, PublicKey, Seal, Statement};
use crate::{
    audit::{Code, days::Day},
    digest::Sha256,
    store::{Bucket, Small, StoreError},
};

/// The longest seal that is read, in bytes: ours have some 1.5 KB.
const LONGEST: u64 = 8 << 10;
/// Seals that are read at once.
const SIDE_BY_SIDE: usize = 32;

/// The seals of an archive, in their order.
#[derive(Debug, Default)]
pub struct Chain {
    /// Those that are seals, each under the number that is its own.
    pub links: Vec<Link>,
    /// What is wrong with the chain itself.
    pub flaws: Vec<Flaw>,
}

/// A seal of the chain.
#[derive(Debug)]
pub struct Link {
    /// The seal.
    pub seal: Seal,
    /// Whether it is proven: signed with one of the keys that were given, or referred to by one that is.
    pub proven: bool,
    /// Whether it refers to the one before it, and that is there; the first to nothing.
    pub holds: bool,
}

/// The key of a seal.
pub fn seal_key(sequence: u64) -> String {
    format!("{PREFIX}/chain/{sequence:08}.json")
}

pub(super) fn sequence(key: &str) -> Option<u64> {
    let name = key.strip_prefix(PREFIX)?.strip_prefix("/chain/")?;
    let sequence = name.strip_suffix(".json")?.parse().ok()?;
    (sequence > 0 && seal_key(sequence) == key).then_some(sequence)
}

impl Chain {
    /// Reads all seals of the manifests' bucket.
    pub async fn read(bucket: &Arc<Bucket>) -> Result<Self, StoreError> {
        let keys = bucket.list(&format!("{PREFIX}/chain"), None);
        let found: Vec<(String, Small)> = keys
            .map_ok(|listed| async move {
                // Whoever may write there may put any number of things there.
                let read = match sequence(&listed.key) {
                    Some(_) => bucket.read_small(&listed.key, LONGEST).await?,
                    None => Small::TooLarge(listed.size),
                };
                Ok((listed.key, read))
            })
            .try_buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        Ok(Self::of(found.into_iter().map(|(key, read)| match read {
            Small::Whole(bytes) => (key, Some(bytes)),
            Small::Missing | Small::TooLarge(_) => (key, None),
        })))
    }

    /// The chain that objects make: by their keys, with their bytes where those could be a seal's.
    fn of(found: impl IntoIterator<Item = (String, Option<bytes::Bytes>)>) -> Self {
        let mut chain = Self::default();
        let mut seals = BTreeMap::new();
        for (key, bytes) in found {
            let flaw = |why: &str| Flaw::new(Code::SealInvalid, &key, why);
            let Some(number) = sequence(&key) else {
                chain.flaws.push(flaw("its name is not a seal's"));
                continue;
            };
            let Some(bytes) = bytes else {
                chain.flaws.push(flaw("it is longer than any seal"));
                continue;
            };
            match Seal::parse(&bytes) {
                Ok(seal) if seal.statement.sequence == number => {
                    seals.insert(number, seal);
                }
                Ok(_) => chain.flaws.push(flaw("it is the seal of another number")),
                Err(error) => chain.flaws.push(flaw(&error.to_string())),
            }
        }
        let mut before: Option<(u64, Sha256)> = None;
        for (number, seal) in seals {
            let (last, sha256) = before.map_or((0, None), |(last, sha256)| (last, Some(sha256)));
            let holds = number == last + 1 && seal.statement.previous == sha256;
            if number > last + 1 {
                chain.flaws.push(Flaw::new(
                    Code::SealMissing,
                    seal_key(last + 1),
                    match number - last {
                        2 => "this seal is not there, or is none, and later ones are".to_owned(),
                        gap => format!(
                            "this seal and the {} after it are not there, and later ones are",
                            gap - 2
                        ),
                    },
                ));
            } else if !holds {
                chain.flaws.push(Flaw::new(
                    Code::SealChain,
                    seal_key(number),
                    "it refers to another seal before it than the one that is there: one of the two was exchanged",
                ));
            }
            before = Some((number, seal.sha256));
            chain.links.push(Link {
                seal,
                proven: false,
                holds,
            });
        }
        chain
    }

    /// The last seal.
    pub fn head(&self) -> Option<&Link> {
        self.links.last()
    }

    /// Whether a seal with that hash is in it.
    pub fn has(&self, sha256: Sha256) -> bool {
        self.links.iter().any(|link| link.seal.sha256 == sha256)
    }

    /// Finds out what is proven by signatures of these keys, and says what is not. The key that a seal names is only
    /// a hint: whoever can write a seal can name any.
    pub fn prove(&mut self, keys: &[PublicKey], roots: &[Sha256]) -> Vec<Flaw> {
        let (mut later, mut known, mut flaws) = (false, false, Vec::new());
        for link in self.links.iter_mut().rev() {
            let statement = link.seal.statement.text();
            let signature = link.seal.signature.as_ref();
            let signed = signature.is_some_and(|signature| {
                keys.iter().any(|key| key.verifies(&statement, signature))
            });
            let forged = !signed
                && signature
                    .is_some_and(|signature| keys.iter().any(|key| key.is_named_by(signature)));
            let noted = roots.contains(&link.seal.sha256);
            let vouched = signed || noted || later || known;
            link.proven = signed || later;
            let key = || seal_key(link.seal.statement.sequence);
            if forged {
                flaws.push(Flaw::new(
                    Code::SealSignature,
                    key(),
                    "its signature is not one of the key that it names",
                ));
            } else if !vouched {
                let why = match signature {
                    None if keys.is_empty() => {
                        "none of the roots that were noted is its own, or that of one after it"
                    }
                    None => "it is not signed, nor is any after it that vouches for it",
                    Some(_) => {
                        "it is signed with another key than was given, and none after it vouches for it"
                    }
                };
                flaws.push(Flaw::new(Code::SealUnsigned, key(), why));
            }
            later = link.proven && link.holds;
            known = vouched && link.holds;
        }
        flaws.reverse();
        flaws
    }

    /// Which of these roots, noted elsewhere, it should have and has not.
    pub fn expect(&self, roots: &[Sha256]) -> Vec<Flaw> {
        let missing = roots.iter().filter(|root| !self.has(**root));
        let flaw = |root: &Sha256| {
            let what = format!(
                "no seal has the root {root} that was noted elsewhere: seals were removed from the chain's end, or all \
                 of it was written anew"
            );
            Flaw::new(Code::SealRoot, format!("{PREFIX}/chain"), what)
        };
        missing.map(flaw).collect()
    }

    /// The seals of a day, in their order.
    pub fn of_day(&self, day: Day) -> impl Iterator<Item = &Statement> {
        let statements = self.links.iter().map(|link| &link.seal.statement);
        statements.filter(move |statement| statement.day == day)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seal::{SigningKey, key::tests::key, statement::tests::statement};

    fn chain(count: u64, sign: impl Fn(u64, &str) -> Option<crate::seal::Signature>) -> Vec<Seal> {
        let mut seals: Vec<Seal> = Vec::new();
        for sequence in 1..=count {
            let statement = statement(sequence, seals.last().map(|seal| seal.sha256));
            let signature = sign(sequence, &statement.text());
            seals.push(Seal::new(statement, signature));
        }
        seals
    }

    fn unsigned(count: u64) -> Vec<Seal> {
        chain(count, |_, _| None)
    }

    fn objects(seals: &[Seal]) -> Vec<(String, Option<bytes::Bytes>)> {
        let object = |seal: &Seal| {
            let json = seal.to_json().unwrap();
            (seal_key(seal.statement.sequence), Some(json.into()))
        };
        seals.iter().map(object).collect()
    }

    fn codes(chain: &Chain) -> Vec<(&str, &str)> {
        let flaws = chain.flaws.iter();
        flaws
            .map(|flaw| (flaw.code.as_str(), &flaw.key[13..]))
            .collect()
    }

    #[test]
    fn an_unbroken_chain_has_no_flaw_in_whichever_order_it_is_listed() {
        for count in [0, 1, 5] {
            let mut objects = objects(&unsigned(count));
            objects.reverse();
            let chain = Chain::of(objects);
            assert_eq!((codes(&chain), chain.links.len() as u64), (vec![], count));
        }
    }

    #[test]
    fn a_seal_removed_from_the_middle_is_missed() {
        let mut all = objects(&unsigned(6));
        all.remove(2);
        assert_eq!(
            codes(&Chain::of(all.clone())),
            [("seal_missing", "00000003.json")]
        );
        all.remove(2);
        let chain = Chain::of(all.clone());
        assert!(
            chain.flaws[0].what.contains("and the 1 after it"),
            "{chain:?}"
        );
        all.remove(0);
        assert_eq!(
            codes(&Chain::of(all)),
            [
                ("seal_missing", "00000001.json"),
                ("seal_missing", "00000003.json")
            ]
        );
    }

    #[test]
    fn a_seal_that_was_exchanged_does_not_fit_the_next() {
        let mut seals = unsigned(4);
        let mut other = seals[1].statement.clone();
        other.manifests += 1;
        seals[1] = Seal::new(other, None);
        assert_eq!(
            codes(&Chain::of(objects(&seals))),
            [("seal_chain", "00000003.json")]
        );
    }

    #[test]
    fn what_is_no_seal_is_named() {
        let mut all = objects(&unsigned(2));
        all[1].1 = Some("{}".into());
        all.push((seal_key(1).replace("0001", "1"), None));
        all.push((seal_key(7), None));
        let first = all[0].1.clone();
        all.push((seal_key(3), first));
        let chain = Chain::of(all);
        assert_eq!(chain.links.len(), 1);
        assert!(
            codes(&chain)
                .iter()
                .all(|(code, _)| *code == "seal_invalid")
        );
        assert_eq!(chain.flaws.len(), 4);
    }

    #[test]
    fn a_gap_of_any_length_is_one_flaw() {
        let seals = [
            unsigned(1),
            vec![Seal::new(
                statement(99_999_999, Some(Sha256::of(b""))),
                None,
            )],
        ];
        assert_eq!(Chain::of(objects(&seals.concat())).flaws.len(), 1);
    }

    #[test]
    fn a_signature_proves_what_comes_before_it_and_nothing_after() {
        let dir = tempfile::tempdir().unwrap();
        let (private, _) = key(dir.path(), "a");
        let (private, _) = SigningKey::read(&private).unwrap();
        let keys = [private.public().clone()];
        let seals = chain(4, |sequence, text| {
            (sequence == 3).then(|| private.sign(text))
        });
        let prove = |seals: &[Seal]| {
            let mut chain = Chain::of(objects(seals));
            assert!(chain.flaws.is_empty());
            let flaws = chain.prove(&keys, &[]);
            let proven: Vec<_> = chain.links.iter().map(|link| link.proven).collect();
            let told = flaws
                .iter()
                .map(|flaw| format!("{} {}", flaw.code, &flaw.key[13..]));
            (proven, told.collect::<Vec<_>>())
        };
        assert_eq!(
            prove(&seals),
            (
                vec![true, true, true, false],
                vec!["seal_unsigned 00000004.json".to_owned()]
            )
        );

        // Rewritten without the key: the chain fits again, and nobody vouches for it.
        let mut forged = unsigned(4);
        for at in 0..4 {
            forged[at].statement.manifests += 1;
            forged[at].statement.previous = at.checked_sub(1).map(|before| forged[before].sha256);
            forged[at] = Seal::new(forged[at].statement.clone(), seals[at].signature.clone());
        }
        let (proven, flaws) = prove(&forged);
        assert_eq!(proven, [false; 4]);
        assert_eq!(flaws.len(), 4);
        assert!(
            flaws.contains(&"seal_signature 00000003.json".to_owned()),
            "{flaws:?}"
        );

        // A good signature vouches for no other seal than the one that it was made for.
        let mut moved = seals.clone();
        moved[3].signature.clone_from(&seals[2].signature);
        assert_eq!(prove(&moved).1, ["seal_signature 00000004.json"]);

        let (other, _) = SigningKey::read(&key(dir.path(), "b").0).unwrap();
        let strange = chain(2, |_, text| Some(other.sign(text)));
        assert_eq!(prove(&strange).0, [false; 2]);
    }

    #[test]
    fn a_root_noted_elsewhere_is_missed_once_the_end_is_gone() {
        let seals = unsigned(4);
        let noted = [seals[1].sha256, seals[3].sha256];
        assert!(Chain::of(objects(&seals)).expect(&noted).is_empty());
        let flaws = Chain::of(objects(&seals[..3])).expect(&noted);
        assert_eq!((flaws.len(), flaws[0].code), (1, Code::SealRoot));
    }

    proptest! {
        #[test]
        fn no_chain_that_was_tampered_with_is_whole(
            count in 2_usize..8, at in 0_usize..8, by in 0_usize..3, signed in any::<bool>(),
        ) {
            let at = at % (count - 1);
            let mut all = objects(&unsigned(count as u64));
            match by {
                0 => drop(all.remove(at)),
                1 => {
                    let (one, other) = (all[at].1.clone(), all[at + 1].1.clone());
                    (all[at].1, all[at + 1].1) = (other, one);
                }
                _ => {
                    let mut seal = Seal::parse(all[at].1.as_ref().unwrap()).unwrap();
                    seal.statement.rows += 1 + u64::from(signed);
                    all[at].1 = Some(Seal::new(seal.statement, None).to_json().unwrap().into());
                }
            }
            prop_assert!(!Chain::of(all).flaws.is_empty());
        }
    }
}
