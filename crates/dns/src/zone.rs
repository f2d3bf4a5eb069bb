//! The cluster's own names, as they are asked for.

use std::sync::{PoisonError, RwLock};

use hickory_proto::ProtoError;
use hickory_proto::op::{self, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use plan::dns_records::{Answer, Records};

use crate::cache::Message;
use crate::forward::NoAnswer;
use crate::question::{LABELS, Question, labels, wire_name};
use crate::reply::Reply;

/// Aliases that are followed: more is a circle.
const ALIASES: usize = 8;
/// Labels of a Service's name below the domain: `<name>.<namespace>.svc`.
const SERVICE_LABELS: usize = 3;

/// The names of a cluster, which the one who watches it keeps up to date while others ask.
#[derive(Debug)]
pub struct Zone {
    state: RwLock<State>,
    domain: Vec<u8>,
    domain_labels: usize,
}

#[derive(Debug)]
struct State {
    records: Records,
    whole: bool,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer is written.
    Answered,
    /// Somebody else knows.
    Elsewhere,
    /// Somebody else knows the last of these names, which stand for each other in turn.
    AliasElsewhere(Vec<Vec<u8>>),
}

impl Zone {
    /// A zone of which nothing is known yet: until [`Zone::whole`] its names are answered with `SERVFAIL`, because what is
    /// not known yet must not be denied.
    ///
    /// # Errors
    ///
    /// The domain is no name.
    pub fn new(records: Records) -> Result<Zone, String> {
        let domain = records.domain();
        let wire = wire_name(&domain).ok_or_else(|| format!("cluster domain {domain:?}: not a DNS name"))?;
        Ok(Zone {
            domain_labels: domain.split('.').count(),
            domain: wire,
            state: RwLock::new(State {
                records,
                whole: false,
            }),
        })
    }

    /// Changes the records.
    pub fn update(&self, change: impl FnOnce(&mut Records)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner).records);
    }

    /// From now on all records are known.
    pub fn whole(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).whole = true;
    }

    /// Answers a question, or says who does.
    pub(crate) fn answer(
        &self,
        question: &Question,
        limit: u16,
        turn: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Outcome, ProtoError> {
        let mut reply = Reply::begin(question, &self.domain, limit, buffer)?;
        let transfer = matches!(question.record_type, RecordType::AXFR | RecordType::IXFR);
        if question.class != DNSClass::IN || transfer {
            reply.code(ResponseCode::Refused);
            reply.end()?;
            return Ok(Outcome::Answered);
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let kind = question.kind();
        let mut names: Vec<Vec<u8>> = Vec::new();
        loop {
            let name = names.last().map(Vec::as_slice);
            let mut room = [""; LABELS];
            let found = match labels(name.unwrap_or(&question.lower), &mut room) {
                Some(labels) => state.records.answer(labels, kind),
                None if question.lower.ends_with(&self.domain) => Answer::NoName,
                None => Answer::Elsewhere,
            };
            if found == Answer::Elsewhere {
                return Ok(match names.is_empty() {
                    true => Outcome::Elsewhere,
                    false => Outcome::AliasElsewhere(names),
                });
            }
            if !state.whole {
                reply.code(ResponseCode::ServFail);
                break;
            }
            reply.authoritative();
            let Answer::Alias(target) = found else {
                self.write(&mut reply, found, name, question, turn)?;
                break;
            };
            let Some(target) = wire_name(target) else {
                reply.code(ResponseCode::ServFail);
                break;
            };
            reply.alias(name, &target)?;
            if question.record_type == RecordType::CNAME {
                break;
            }
            if names.len() == ALIASES {
                reply.code(ResponseCode::ServFail);
                break;
            }
            names.push(target);
        }
        reply.end()?;
        Ok(Outcome::Answered)
    }

    /// Writes an answer that is no alias.
    fn write(
        &self,
        reply: &mut Reply,
        found: Answer,
        owner: Option<&[u8]>,
        question: &Question,
        turn: u64,
    ) -> Result<(), ProtoError> {
        match found {
            Answer::V4(addresses) => reply.v4(owner, addresses, turn),
            Answer::V6(addresses) => reply.v6(owner, addresses, turn),
            Answer::Spelt(std::net::IpAddr::V4(address)) => reply.v4(owner, &[address], turn),
            Answer::Spelt(std::net::IpAddr::V6(address)) => reply.v6(owner, &[address], turn),
            Answer::Targets(targets) => {
                let service = self.service(owner.unwrap_or(&question.name));
                reply.targets(owner, &targets, service, turn)
            }
            Answer::Pointers(names) => reply.pointers(&names, turn),
            Answer::Version => reply.version(),
            Answer::NameServer => reply.name_server(),
            Answer::Authority => reply.authority(true),
            Answer::NoName => {
                reply.code(ResponseCode::NXDomain);
                reply.authority(false)
            }
            Answer::NoData | Answer::Alias(_) | Answer::Elsewhere => reply.authority(false),
        }
    }

    /// The name of the Service that a name is below of.
    fn service<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        let mut room = [""; LABELS];
        let count = labels(name, &mut room).map_or(0, <[_]>::len);
        let mut rest = name;
        for _ in (self.domain_labels + SERVICE_LABELS)..count {
            let length = rest.first().map_or(0, |length| usize::from(*length) + 1);
            rest = rest.get(length..).unwrap_or_default();
        }
        rest
    }

    /// Answers a question whose answer, or whose last alias', comes from elsewhere.
    pub(crate) fn answer_from_elsewhere(
        &self,
        question: &Question,
        names: &[Vec<u8>],
        answer: Result<Message, NoAnswer>,
        limit: u16,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ProtoError> {
        let mut reply = Reply::begin(question, &self.domain, limit, buffer)?;
        let mut owner = None;
        for name in names {
            reply.alias(owner, name)?;
            owner = Some(name.as_slice());
        }
        let message = answer.map(|message| op::Message::from_vec(&message.bytes));
        match message {
            Ok(Ok(message)) => {
                reply.code(message.response_code);
                reply.records(&message.answers)?;
            }
            Ok(Err(_)) => reply.code(ResponseCode::ServFail),
            Err(none) => reply.code(none.code()),
        }
        reply.end()
    }
}
