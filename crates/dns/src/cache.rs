//! Answers from elsewhere, kept for as long as they say.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::{Header, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use tokio::time::Instant;

/// Answers that are kept. CoreDNS keeps about ten thousand, too.
const ENTRIES: usize = 10_000;
/// Bytes of them: a quarter of a thousand of the longest, or all if they are as long as most.
const BYTES: usize = 16 << 20;
/// How long an answer is kept at most, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);
/// The same for what is not there.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(300);
/// How long an answer that has run out still helps when nobody answers (RFC 8767).
const STALE: Duration = Duration::from_secs(24 * 3600);
/// What such an answer says of how long it may be kept: RFC 8767's advice.
const STALE_TTL: u32 = 30;

/// What was asked: lower-case name, type, and the flags that change an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) name: Vec<u8>,
    pub(crate) record_type: u16,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

/// An answer from elsewhere, without its EDNS record.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The whole message.
    pub(crate) bytes: Vec<u8>,
    /// Where the answer's question ends.
    pub(crate) question_end: usize,
    /// Where its times stand.
    ttls: Vec<usize>,
    keep: Option<Duration>,
}

impl Message {
    /// Reads an answer. `None` is one that cannot be handed on.
    pub(crate) fn read(mut bytes: Vec<u8>) -> Option<Message> {
        let mut places = walk(&bytes).ok()?;
        match places.edns {
            None => {}
            // Mostly it is the last record and can be taken off.
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

    /// Whether it was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.bytes[2] & 2 != 0
    }

    /// Whether it says that the server could not, or would not.
    pub(crate) fn is_failure(&self) -> bool {
        let code = ResponseCode::from_low(self.bytes[3] & 0xf);
        matches!(
            code,
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
        )
    }

    /// Makes all times shorter by what has passed.
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

/// What a message is made of.
struct Places {
    code: ResponseCode,
    question_end: usize,
    ttls: Vec<usize>,
    answers: u16,
    shortest: u32,
    /// Of the zone that denies: its own time and the one for denials.
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
        // The highest bit is none of the time's (RFC 2181).
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
    /// Which entry of the queue is its own; older ones are left over.
    number: u64,
}

/// The answers that are kept.
#[derive(Default)]
pub(crate) struct Cache {
    kept: HashMap<Key, Kept>,
    /// The order in which they came; the oldest goes first when there is no more room.
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    number: u64,
}

impl Cache {
    /// A kept answer as it is now, if it has not run out.
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

    /// An answer that has run out, for when there is no better one.
    pub(crate) fn stale(&self, key: &Key, now: Instant) -> Option<Message> {
        let kept = self.kept.get(key)?;
        if now.saturating_duration_since(kept.since) >= kept.keep + STALE {
            return None;
        }
        let mut message = kept.message.clone();
        message.age(Duration::ZERO, true);
        Some(message)
    }

    /// Keeps an answer, if it may be kept.
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
