//! What a daemon pod is called.
//!
//! The name looks as Kubernetes' generated names do, but it is a function of what the pod is for: the set, the node,
//! the template, and the pod's predecessor on that node. Whoever decides twice to create the same pod, because its
//! cache is behind or an answer got lost, asks for the same name, and the server lets only the first one through.
//! The predecessor is in it so that a name is not used again: who waits for a deleted pod to vanish by name sees it go.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

/// The youngest pod that a set has had on a node. The next one's name depends on it. Times of creation are whole seconds, so
/// it may be several pods: each makes a difference.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// When it was created.
    created: Option<Timestamp>,
    /// Its uid, or those of all pods of that second, sorted; empty when there never was one.
    uids: Arc<str>,
}

impl Lineage {
    /// Takes a pod in. Says whether it is new and changes the next name.
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

/// What generated names are made of: no vowels, so no words, and no characters that look alike.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many generated characters end a name.
const SUFFIX: usize = 5;

/// How much of the set's name and the dash stays, as generateName cuts it: the whole must serve as a host name, which
/// has 63 characters at most.
const LONGEST_PREFIX: usize = 63 - SUFFIX;

/// The pod's name: the set's name and a dash, cut to 58 characters, and five more. `salt` is raised when the name is taken by a stranger.
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

/// `prefix` and a dash, cut to 58 characters, and five more, which are a function of `parts`.
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

/// FNV-1a over the parts, each followed by a byte that none of them holds, then mixed so that all bits depend on all.
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
