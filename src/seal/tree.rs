//! The hash tree over a seal's manifests: that of RFC 6962 (section 2.1), also RFC 9162's.
//!
//! From a root anybody can prove that one manifest was sealed with a path of some twenty hashes, without being shown
//! the others.

use crate::digest::{Hasher, Sha256};

/// What a leaf's hash begins with, so that no inner node passes for a leaf.
const LEAF: u8 = 0;
/// What an inner node's hash begins with.
const NODE: u8 = 1;

/// A root under way: leaves come one by one, and no more hashes are held than the tree is high.
#[derive(Debug, Default)]
pub struct Tree {
    /// Roots of whole subtrees with their heights, from the highest to the lowest.
    whole: Vec<(u32, Sha256)>,
}

impl Tree {
    /// Adds a leaf behind the others.
    pub fn push(&mut self, leaf: Sha256) {
        let (mut height, mut root) = (0, leaf);
        while let Some((_, left)) = self.whole.pop_if(|(of, _)| *of == height) {
            root = node(left, root);
            height += 1;
        }
        self.whole.push((height, root));
    }

    /// The root over all leaves; of none it is the hash of nothing.
    pub fn root(&self) -> Sha256 {
        let roots = self.whole.iter().rev().map(|(_, root)| *root);
        let root = roots.reduce(|right, left| node(left, right));
        root.unwrap_or_else(|| Sha256::of(b""))
    }
}

/// A leaf: the line that `sha256sum` would write of a manifest, `<SHA-256>  <key>` and a newline.
pub fn leaf(sha256: Sha256, key: &str) -> Sha256 {
    let line = format!("{sha256}  {key}\n");
    of(LEAF, &[line.as_bytes()])
}

/// The hashes beside the way from a leaf up to the root, lowest first; `None` where there is no such leaf.
pub fn path(leaves: &[Sha256], at: usize) -> Option<Vec<Sha256>> {
    if at >= leaves.len() {
        return None;
    }
    let (mut beside, mut at, mut rest) = (Vec::new(), at, leaves);
    while rest.len() > 1 {
        let (left, right) = rest.split_at(split(rest.len()));
        let (on, off) = if at < left.len() {
            (left, right)
        } else {
            at -= left.len();
            (right, left)
        };
        beside.push(root_of(off));
        rest = on;
    }
    beside.reverse();
    Some(beside)
}

/// The root to which a path leads from the leaf `at` of `count`: RFC 9162's section 2.1.3.2. `None` where the path
/// is of another length than that of such a leaf.
pub fn climb(leaf: Sha256, at: u64, count: u64, path: &[Sha256]) -> Option<Sha256> {
    if at >= count {
        return None;
    }
    let (mut at, mut last, mut root) = (at, count - 1, leaf);
    for beside in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            root = node(*beside, root);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            root = node(root, *beside);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(root)
}

fn root_of(leaves: &[Sha256]) -> Sha256 {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree.root()
}

/// Of at least two leaves as many as the largest power of two leaves to the right at least one.
fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

fn node(left: Sha256, right: Sha256) -> Sha256 {
    of(NODE, &[left.as_bytes(), right.as_bytes()])
}

fn of(begins: u8, parts: &[&[u8]]) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(&[begins]);
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The leaves of Certificate Transparency's own tests, in hex.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    /// Their roots over the first one, two, and so on.
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves() -> Vec<Sha256> {
        LEAVES.iter().map(|data| of(LEAF, &[data])).collect()
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let mut tree = Tree::default();
        assert_eq!(tree.root(), Sha256::of(b""));
        for (leaf, root) in leaves().into_iter().zip(ROOTS) {
            tree.push(leaf);
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn a_path_is_that_of_certificate_transparency() {
        // The one for the sixth of eight.
        let path = path(&leaves(), 5).unwrap();
        let told: Vec<_> = path.iter().map(Sha256::to_string).collect();
        assert_eq!(
            told,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn a_leaf_is_the_line_of_sha256sum() {
        let (sha256, key) = (Sha256::of(b"abc"), "2023/08/24/c/r/manifest.json");
        let line =
            format!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  {key}\n");
        assert_eq!(leaf(sha256, key), of(LEAF, &[line.as_bytes()]));
    }

    proptest! {
        #[test]
        fn a_path_leads_to_the_root_from_its_own_leaf_alone(
            count in 1_usize..70, at in 0_usize..70, other in 0_usize..70, cut in 0_usize..8,
        ) {
            let leaves: Vec<_> = (0..count).map(|n| Sha256::of(&n.to_le_bytes())).collect();
            let Some(path) = path(&leaves, at) else {
                prop_assert!(at >= count);
                return Ok(());
            };
            let root = root_of(&leaves);
            let climb = |leaf, at: usize, path: &[Sha256]| climb(leaf, at as u64, count as u64, path);
            prop_assert_eq!(climb(leaves[at], at, &path), Some(root));
            if other < count && other != at {
                prop_assert_ne!(climb(leaves[other], at, &path), Some(root));
                prop_assert_ne!(climb(leaves[at], other, &path), Some(root));
            }
            if cut < path.len() {
                prop_assert_eq!(climb(leaves[at], at, &path[..cut]), None);
            }
            let longer = [&path[..], &[root]].concat();
            prop_assert_eq!(climb(leaves[at], at, &longer), None);
        }
    }
}
