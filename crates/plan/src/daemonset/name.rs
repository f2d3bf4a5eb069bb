//! Names of daemon pods.
//!
//! A name looks like Kubernetes' generated names, but is a function of the set, the node, the
//! template, and the pod's predecessor on that node. If a pod is requested twice, because a cache
//! is late or an answer was lost, both requests have the same name, and the server accepts only the
//! first. The predecessor is included so that names are not reused: a client that waits for a
//! deleted pod by name sees it disappear.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

/// The youngest pods that a set has had on a node. The next pod's name depends on them. Creation
/// times are whole seconds, so there may be several.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// When it was created.
    created: Option<Timestamp>,
    /// Their uids, sorted; empty if there never was a pod.
    uids: Arc<str>,
}

impl Lineage {
    /// Adds a pod. Returns whether it changes the next name.
    pub fn extend(&mut self, created: Option<Timestamp>, uid: &Arc<str>) -> bool {
        match created.cmp(&self.created) {
            Ordering::Less => return false,
            Ordering::Greater => self.uids = uid.clone(),
            Ordering::Equal => {
                let mut uids: BTreeSet<&str> = self.uids.split(' ').filter(|uid| !uid.is_empty()).collect();
                if !uids.insert(uid) {
                    return false;
                }
                let joined: Vec<&str> = uids.into_iter().collect();
                self.uids = joined.join(" ").into();
            }
        }
        self.created = created;
        true
    }
}

/// Characters of generated names: no vowels, so no words, and no characters that look alike.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Number of generated characters at the end of a name.
const SUFFIX: usize = 5;

/// Longest prefix, including the dash. As with generateName, the whole name must be a valid host
/// name of at most 63 characters.
const LONGEST_PREFIX: usize = 63 - SUFFIX;

/// The pod's name: the set's name and a dash, cut to 58 characters, and five more. `salt` is raised
/// if another owner's pod has the name.
pub fn pod_name(set: &str, set_uid: &str, node: &str, hash: &str, lineage: &Lineage, salt: u32) -> String {
    let salt = salt.to_le_bytes();
    computed_name(
        set,
        [
            set_uid.as_bytes(),
            node.as_bytes(),
            hash.as_bytes(),
            lineage.uids.as_bytes(),
            &salt,
        ],
    )
}

/// `prefix` and a dash, cut to 58 characters, and five more that are a function of `parts`.
pub(crate) fn computed_name<'p>(prefix: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut bits = fnv64(parts);
    let mut name = format!("{prefix}-");
    name.truncate(name.floor_char_boundary(LONGEST_PREFIX));
    for _ in 0..SUFFIX {
        name.push(char::from(ALPHABET[(bits % ALPHABET.len() as u64) as usize]));
        bits /= ALPHABET.len() as u64;
    }
    name
}

/// FNV-1a over the parts, each followed by a byte that none contains, then mixed so that all bits
/// depend on all.
fn fnv64<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}
