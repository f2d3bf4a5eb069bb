//! Cache of upstream responses, which respects their TTLs.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::{Header, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use tokio::time::Instant;

/// Most cached responses. CoreDNS also holds about 10,000.
const ENTRIES: usize = 10_000;
/// Most bytes of cached responses: 256 responses of the longest kind (64 KiB), or all 10,000 of an
/// average length.
const BYTES: usize = 16 << 20;
/// Longest time that a response is cached, for any TTL.
const LONGEST: Duration = Duration::from_secs(3600);
/// Longest time that a negative response is cached.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(300);
/// How long an expired response may still be used when no upstream responds (RFC 8767).
const STALE: Duration = Duration::from_secs(24 * 3600);
/// TTL of an expired response, as RFC 8767 recommends.
const STALE_TTL: u32 = 30;

/// Key of a query: lower-case name, type, and the flags that change the response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) name: Vec<u8>,
    pub(crate) record_type: u16,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

/// Upstream response, without its EDNS record.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The complete message.
    pub(crate) bytes: Vec<u8>,
    /// Offset of the end of the question section.
    pub(crate) question_end: usize,
    /// Offsets of the TTLs.
    ttls: Vec<usize>,
    keep: Option<Duration>,
}

impl Message {
    /// Parses a response. Returns `None` if it cannot be forwarded.
    pub(crate) fn read(mut bytes: Vec<u8>) -> Option<Message> {
        let mut places = walk(&bytes).ok()?;
        match places.edns {
            None => {}
            // Usually it is the last record and can be cut off.
            Some((begin, end)) if end == bytes.len() => {
                bytes.truncate(begin);
                let additionals = u16::from_be_bytes([bytes[10], bytes[11]]).saturating_sub(1);
                bytes[10..12].copy_from_slice(&additionals.to_be_bytes());
            }
            Some(_) => {
                let mut whole = hickory_proto::op::Message::from_vec(&bytes).ok()?;
                whole.edns = None;
                bytes = whole.to_vec().ok()?;
                places = walk(&bytes).ok()?;
            }
        }
        let keep = places.keep(&bytes);
        Some(Message {
            bytes,
            question_end: places.question_end,
            ttls: places.ttls,
            keep,
        })
    }

    /// Returns whether the response is truncated.
    pub(crate) fn is_cut(&self) -> bool {
        self.bytes[2] & 2 != 0
    }

    /// Returns whether the response is a failure or a refusal.
    pub(crate) fn is_failure(&self) -> bool {
        let code = ResponseCode::from_low(self.bytes[3] & 0xf);
        matches!(
            code,
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
        )
    }

    /// Reduces all TTLs by the time that has passed.
    fn age(&mut self, passed: Duration, stale: bool) {
        let passed = u32::try_from(passed.as_secs()).unwrap_or(u32::MAX);
        for at in &self.ttls {
            let Some(place) = self.bytes.get_mut(*at..at + 4) else {
                continue;
            };
            let ttl = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
            let left = if stale {
                STALE_TTL
            } else {
                ttl.saturating_sub(passed)
            };
            place.copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// Positions of the parts of a message.
struct Places {
    code: ResponseCode,
    question_end: usize,
    ttls: Vec<usize>,
    answers: u16,
    shortest: u32,
    /// From the SOA of a negative response: the smaller of its TTL and its minimum.
    denial: Option<u32>,
    edns: Option<(usize, usize)>,
}

impl Places {
    fn keep(&self, bytes: &[u8]) -> Option<Duration> {
        let cut = bytes[2] & 2 != 0;
        let positive = self.code == ResponseCode::NoError && self.answers > 0;
        let negative = matches!(self.code, ResponseCode::NoError | ResponseCode::NXDomain);
        let (seconds, longest) = match self.denial {
            _ if cut => return None,
            _ if positive => (self.shortest, LONGEST),
            Some(denial) if negative => (denial.min(self.shortest), LONGEST_NEGATIVE),
            _ => return None,
        };
        let keep = Duration::from_secs(seconds.into()).min(longest);
        (!keep.is_zero()).then_some(keep)
    }
}

fn walk(bytes: &[u8]) -> Result<Places, DecodeError> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder)?;
    for _ in 0..header.counts.queries {
        Name::read(&mut decoder)?;
        decoder.read_slice(4)?;
    }
    let mut places = Places {
        code: header.response_code,
        question_end: decoder.index(),
        ttls: Vec::new(),
        answers: header.counts.answers,
        shortest: u32::MAX,
        denial: None,
        edns: None,
    };
    let counts = header.counts;
    let records = u32::from(counts.answers) + u32::from(counts.authorities) + u32::from(counts.additionals);
    for _ in 0..records {
        let begin = decoder.index();
        Name::read(&mut decoder)?;
        let record_type = RecordType::read(&mut decoder)?;
        decoder.read_slice(2)?;
        let at = decoder.index();
        let ttl = decoder.read_u32()?.unverified(/* any time is one */);
        let length = decoder.read_u16()?.unverified(/* the slice is checked */);
        let data = decoder.read_slice(length.into())?.unverified(/* only read */);
        if record_type == RecordType::OPT {
            places.edns = Some((begin, decoder.index()));
            continue;
        }
        places.ttls.push(at);
        // A TTL with the highest bit set counts as 0 (RFC 2181).
        let ttl = if ttl >> 31 == 1 { 0 } else { ttl };
        places.shortest = places.shortest.min(ttl);
        if record_type == RecordType::SOA
            && let Some(minimum) = data.last_chunk::<4>()
        {
            places.denial = Some(ttl.min(u32::from_be_bytes(*minimum)));
        }
    }
    Ok(places)
}

struct Kept {
    message: Message,
    since: Instant,
    keep: Duration,
    /// Number of its entry in the queue; older entries of the key are stale.
    number: u64,
}

/// Cached responses.
#[derive(Default)]
pub(crate) struct Cache {
    kept: HashMap<Key, Kept>,
    /// Order of insertion. The oldest is removed when there is no room.
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    number: u64,
}

impl Cache {
    /// Returns a cached response with its current TTLs, if it has not expired.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let kept = self.kept.get(key)?;
        let passed = now.saturating_duration_since(kept.since);
        if passed >= kept.keep {
            return None;
        }
        let mut message = kept.message.clone();
        message.age(passed, false);
        Some(message)
    }

    /// Returns an expired response, for use when no upstream responds.
    pub(crate) fn stale(&self, key: &Key, now: Instant) -> Option<Message> {
        let kept = self.kept.get(key)?;
        if now.saturating_duration_since(kept.since) >= kept.keep + STALE {
            return None;
        }
        let mut message = kept.message.clone();
        message.age(Duration::ZERO, true);
        Some(message)
    }

    /// Stores a response, if it may be cached.
    pub(crate) fn put(&mut self, key: Key, message: &Message, now: Instant) {
        let Some(keep) = message.keep else { return };
        self.number += 1;
        self.bytes += message.bytes.len();
        let kept = Kept {
            message: message.clone(),
            since: now,
            keep,
            number: self.number,
        };
        self.order.push_back((self.number, key.clone()));
        if let Some(before) = self.kept.insert(key, kept) {
            self.bytes -= before.message.bytes.len();
        }
        while self.kept.len() > ENTRIES || self.bytes > BYTES || self.order.len() > 2 * ENTRIES {
            let Some((number, key)) = self.order.pop_front() else {
                break;
            };
            if self.kept.get(&key).is_some_and(|kept| kept.number == number)
                && let Some(kept) = self.kept.remove(&key)
            {
                self.bytes -= kept.message.bytes.len();
            }
        }
    }
}
