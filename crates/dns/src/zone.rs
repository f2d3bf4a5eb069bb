//! Names of the cluster.

use std::sync::{PoisonError, RwLock};

use hickory_proto::ProtoError;
use hickory_proto::op::{self, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use plan::dns_records::{Answer, Records};

use crate::cache::Message;
use crate::forward::NoAnswer;
use crate::question::{LABELS, Question, labels, wire_name};
use crate::reply::Reply;

/// Most aliases in a chain; a longer chain is a loop.
const ALIASES: usize = 8;
/// Labels of a Service's name below the domain: `<name>.<namespace>.svc`.
const SERVICE_LABELS: usize = 3;

/// Records of a cluster. A watcher updates them while queries read them.
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

/// Result of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The response is written.
    Answered,
    /// The name is not the cluster's, so an upstream must be asked.
    Elsewhere,
    /// These names form a chain of aliases. An upstream must be asked for the last one.
    AliasElsewhere(Vec<Vec<u8>>),
}

impl Zone {
    /// Returns a zone without records. Until [`Zone::whole`] it responds with `SERVFAIL`, because a
    /// record may exist that is not loaded yet.
    ///
    /// # Errors
    ///
    /// The domain is not a valid name.
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

    /// Marks the records as complete.
    pub fn whole(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).whole = true;
    }

    /// Writes the response to a query, or returns that an upstream must be asked.
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

    /// Writes a response that is not an alias.
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

    /// Returns the part of a name that is the name of its Service.
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

    /// Writes a response whose records, or the target of the last alias, come from an upstream.
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
