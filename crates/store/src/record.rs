//! The format of objects in the embedded store, and the check that all of them are there.
//!
//! The record of an object is its revision, a checksum of key, revision and body, and the body. One
//! more record, with the empty key, is the *ledger*: the number of objects, the sum of a hash of
//! each (key, revision), the newest revision, and the end of the reserved block of revisions. It
//! changes in the same batch as the objects. So the store detects lost, foreign, outdated and
//! changed records, whatever the engine did.

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::object::Revision;

/// The key of the ledger. The key of an object is never empty.
pub(crate) const LEDGER_KEY: &[u8] = b"";

/// The first bytes of a ledger: the type of the file and the version of the format.
const MAGIC: &[u8; 8] = b"evrynd\x00\x01";

const HEADER_BYTES: usize = 16;
pub(crate) const LEDGER_BYTES: usize = 8 + 4 * 8 + 8;

/// A record that is not as it was written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RecordError {
    #[error("it is too short")]
    Short,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it was written by another version of this program")]
    Format,
}

/// Encodes the record of an object.
pub(crate) fn encode(key: &[u8], revision: Revision, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + body.len());
    record.extend(checksum(key, revision, body).to_le_bytes());
    record.extend(revision.0.to_le_bytes());
    record.extend(body);
    record
}

/// Returns the revision and the body of a record.
pub(crate) fn decode(key: &[u8], record: Vec<u8>) -> Result<(Revision, Bytes), RecordError> {
    if record.len() < HEADER_BYTES {
        return Err(RecordError::Short);
    }
    let revision = Revision(word(&record[8..]));
    if word(&record) != checksum(key, revision, &record[HEADER_BYTES..]) {
        return Err(RecordError::Checksum);
    }
    // A copy, so that only the body stays in memory.
    Ok((revision, Bytes::copy_from_slice(&record[HEADER_BYTES..])))
}

fn checksum(key: &[u8], revision: Revision, body: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(&revision.0.to_le_bytes());
    hash.update(body);
    hash.digest()
}

/// The invariant of all records together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The newest revision that was written.
    pub(crate) revision: Revision,
    /// No revision above this one has been used.
    pub(crate) reserved: Revision,
    /// Number of objects.
    pub(crate) count: u64,
    /// The wrapping sum of the hashes of keys and revisions.
    pub(crate) digest: u64,
}

impl Ledger {
    /// Adds an object.
    pub(crate) fn add(&mut self, key: &[u8], revision: Revision) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(identity(key, revision));
    }

    /// Subtracts an object.
    pub(crate) fn subtract(&mut self, key: &[u8], revision: Revision) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(identity(key, revision));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(LEDGER_BYTES);
        record.extend(MAGIC);
        for number in [self.revision.0, self.reserved.0, self.count, self.digest] {
            record.extend(number.to_le_bytes());
        }
        record.extend(xxh3_64(&record).to_le_bytes());
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Ledger, RecordError> {
        if !record.starts_with(MAGIC) {
            return Err(if record.starts_with(&MAGIC[..7]) {
                RecordError::Format
            } else {
                RecordError::Checksum
            });
        }
        if record.len() != LEDGER_BYTES {
            return Err(RecordError::Short);
        }
        let (content, sum) = record.split_at(LEDGER_BYTES - 8);
        if word(sum) != xxh3_64(content) {
            return Err(RecordError::Checksum);
        }
        let numbers = &content[MAGIC.len()..];
        Ok(Ledger {
            revision: Revision(word(numbers)),
            reserved: Revision(word(&numbers[8..])),
            count: word(&numbers[16..]),
            digest: word(&numbers[24..]),
        })
    }
}

fn identity(key: &[u8], revision: Revision) -> u64 {
    let mut hash = Xxh3::with_seed(revision.0);
    hash.update(key);
    hash.digest()
}

/// Returns the first eight bytes as a little-endian number.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}
