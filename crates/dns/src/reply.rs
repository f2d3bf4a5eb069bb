//! Responses in the wire format.
//!
//! Most records of a response have the name of the question, so they point to it. Targets in the
//! data of a record are not compressed, as RFC 2782 requires for `SRV`. A response that is too long
//! is cut after a complete record and marked as truncated.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns as EdnsRecord, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode,
};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, Place};
use plan::dns_records::{SCHEMA_VERSION, TTL, Target, VERSION_TTL};

use crate::cache::Message;
use crate::question::{Question, Refusal};

/// Pointer to the name of the question.
const QUESTION: [u8; 2] = [0xc0, 12];
/// Largest offset that a pointer can express.
const POINTERS: usize = 0x3fff;
/// Length of our EDNS record, without options.
const EDNS_LENGTH: u16 = 11;
/// UDP payload that we accept, in bytes.
const PAYLOAD: u16 = 1232;
/// `refresh`, `retry` and `expire` of the zone. There are no zone transfers, so they have no
/// effect.
const ZONE_TIMES: [u32; 3] = [7200, 1800, 86_400];

type Result<T> = std::result::Result<T, ProtoError>;

/// A response that is being written.
pub(crate) struct Reply<'a> {
    encoder: BinEncoder<'a>,
    header: Place<Header>,
    metadata: Metadata,
    counts: HeaderCounts,
    edns: bool,
    /// Uncompressed name of the question.
    name: &'a [u8],
    /// Domain of the cluster in the wire format.
    domain: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Begins a response of at most `limit` bytes.
    pub(crate) fn begin(
        question: &'a Question,
        domain: &'a [u8],
        limit: u16,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Reply<'a>> {
        buffer.clear();
        let mut encoder = BinEncoder::new(buffer);
        let edns = question.edns.is_some();
        encoder.set_max_size(if edns { limit - EDNS_LENGTH } else { limit });
        let header = encoder.place::<Header>()?;
        encoder.emit_vec(&question.name)?;
        question.record_type.emit(&mut encoder)?;
        question.class.emit(&mut encoder)?;
        let mut metadata = Metadata::new(question.id, MessageType::Response, OpCode::Query);
        metadata.recursion_desired = question.recursion_desired;
        metadata.checking_disabled = question.checking_disabled;
        metadata.recursion_available = true;
        let counts = HeaderCounts {
            queries: 1,
            ..HeaderCounts::default()
        };
        Ok(Reply {
            encoder,
            header,
            metadata,
            counts,
            edns,
            name: &question.name,
            domain,
        })
    }

    /// Marks the response as authoritative.
    pub(crate) fn authoritative(&mut self) {
        self.metadata.authoritative = true;
    }

    /// Sets the response code.
    pub(crate) fn code(&mut self, code: ResponseCode) {
        self.metadata.response_code = code;
    }

    /// Completes the response.
    pub(crate) fn end(mut self) -> Result<()> {
        if self.edns {
            self.encoder.set_max_size(u16::MAX);
            let mut edns = EdnsRecord::new();
            edns.set_max_payload(PAYLOAD);
            edns.emit(&mut self.encoder)?;
            self.counts.additionals += 1;
        }
        let header = Header {
            metadata: self.metadata,
            counts: self.counts,
        };
        self.header.replace(&mut self.encoder, header)
    }

    /// Writes one record, or nothing if it does not fit. Returns whether it fitted.
    fn record(
        &mut self,
        owner: &[u8],
        record_type: RecordType,
        ttl: u32,
        data: impl FnOnce(&mut BinEncoder<'a>) -> Result<()>,
    ) -> Result<bool> {
        let begin = self.encoder.offset();
        let written = (|| {
            let encoder = &mut self.encoder;
            encoder.emit_vec(owner)?;
            record_type.emit(encoder)?;
            DNSClass::IN.emit(encoder)?;
            encoder.emit_u32(ttl)?;
            let length = encoder.place::<u16>()?;
            data(encoder)?;
            let written = encoder.len_since_place(&length);
            length.replace(encoder, u16::try_from(written).unwrap_or(u16::MAX))
        })();
        match written {
            Ok(()) => Ok(true),
            Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                self.encoder.set_offset(begin);
                self.encoder.trim();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes one record of the answer section. Returns whether it fitted; if not, the response is
    /// truncated there.
    fn answer(
        &mut self,
        owner: &[u8],
        record_type: RecordType,
        ttl: u32,
        data: impl FnOnce(&mut BinEncoder<'a>) -> Result<()>,
    ) -> Result<bool> {
        let fitted = self.record(owner, record_type, ttl, data)?;
        match fitted {
            true => self.counts.answers += 1,
            false => self.metadata.truncation = true,
        }
        Ok(fitted)
    }

    /// Writes IPv4 addresses, beginning with the one that `turn` selects.
    pub(crate) fn v4(&mut self, owner: Option<&[u8]>, addresses: &[Ipv4Addr], turn: u64) -> Result<()> {
        for address in turned(addresses, turn) {
            let data = |encoder: &mut BinEncoder| encoder.emit_vec(&address.octets());
            if !self.answer(owner.unwrap_or(&QUESTION), RecordType::A, TTL, data)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes IPv6 addresses, beginning with the one that `turn` selects.
    pub(crate) fn v6(&mut self, owner: Option<&[u8]>, addresses: &[Ipv6Addr], turn: u64) -> Result<()> {
        for address in turned(addresses, turn) {
            let data = |encoder: &mut BinEncoder| encoder.emit_vec(&address.octets());
            if !self.answer(owner.unwrap_or(&QUESTION), RecordType::AAAA, TTL, data)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes SRV records, and the addresses of their targets as far as there is room.
    pub(crate) fn targets(
        &mut self,
        owner: Option<&[u8]>,
        targets: &[Target],
        service: &[u8],
        turn: u64,
    ) -> Result<()> {
        let mut told: Vec<(usize, &Target)> = Vec::with_capacity(targets.len());
        for target in turned(targets, turn) {
            let mut at = 0;
            let data = |encoder: &mut BinEncoder| {
                encoder.emit_u16(0)?;
                encoder.emit_u16(100)?;
                encoder.emit_u16(target.port)?;
                at = encoder.offset();
                for label in target.below.iter().flat_map(|below| below.split('.')) {
                    encoder.emit_character_data(label)?;
                }
                encoder.emit_vec(service)
            };
            if !self.answer(owner.unwrap_or(&QUESTION), RecordType::SRV, TTL, data)? {
                return Ok(());
            }
            told.push((at, target));
        }
        // The ports of one name are consecutive; its addresses are written once.
        told.dedup_by_key(|(_, target)| target.below);
        for (at, target) in told {
            if at > POINTERS {
                return Ok(());
            }
            let owner = [0xc0 | (at >> 8) as u8, at as u8];
            for address in target.v4 {
                if !self.additional(&owner, RecordType::A, &address.octets())? {
                    return Ok(());
                }
            }
            for address in target.v6 {
                if !self.additional(&owner, RecordType::AAAA, &address.octets())? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes an address to the additional section. Returns whether it fitted.
    fn additional(&mut self, owner: &[u8], record_type: RecordType, octets: &[u8]) -> Result<bool> {
        let fitted = self.record(owner, record_type, TTL, |encoder| encoder.emit_vec(octets))?;
        if fitted {
            self.counts.additionals += 1;
        }
        Ok(fitted)
    }

    /// Writes the PTR records of an address; the names are in the cluster's domain.
    pub(crate) fn pointers(&mut self, names: &[&str], turn: u64) -> Result<()> {
        let domain = self.domain;
        for name in turned(names, turn) {
            let data = |encoder: &mut BinEncoder| {
                for label in name.split('.') {
                    encoder.emit_character_data(label)?;
                }
                encoder.emit_vec(domain)
            };
            if !self.answer(&QUESTION, RecordType::PTR, TTL, data)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes a CNAME record; both names are uncompressed.
    pub(crate) fn alias(&mut self, owner: Option<&[u8]>, name: &[u8]) -> Result<()> {
        let data = |encoder: &mut BinEncoder| encoder.emit_vec(name);
        self.answer(owner.unwrap_or(&QUESTION), RecordType::CNAME, TTL, data)?;
        Ok(())
    }

    /// Writes the version of the DNS schema.
    pub(crate) fn version(&mut self) -> Result<()> {
        let data = |encoder: &mut BinEncoder| encoder.emit_character_data(SCHEMA_VERSION);
        self.answer(&QUESTION, RecordType::TXT, VERSION_TTL, data)?;
        Ok(())
    }

    /// Writes the NS record of the domain.
    pub(crate) fn name_server(&mut self) -> Result<()> {
        let domain = self.domain;
        let data = |encoder: &mut BinEncoder| {
            encoder.emit_vec(b"\x02ns\x03dns")?;
            encoder.emit_vec(domain)
        };
        self.answer(&QUESTION, RecordType::NS, TTL, data)?;
        Ok(())
    }

    /// Writes the SOA record of the zone, to the answer section or, for a negative response, to the
    /// authority section.
    pub(crate) fn authority(&mut self, asked: bool) -> Result<()> {
        // The name of the zone is the end of the question's name.
        let at = 12 + self.name.len().saturating_sub(self.domain.len());
        let zone = [0xc0 | (at >> 8) as u8, at as u8];
        let data = |encoder: &mut BinEncoder| {
            encoder.emit_vec(b"\x02ns\x03dns")?;
            encoder.emit_vec(&zone)?;
            encoder.emit_vec(b"\x0ahostmaster")?;
            encoder.emit_vec(&zone)?;
            // Serial number; without zone transfers it is not compared.
            encoder.emit_u32(1)?;
            for time in ZONE_TIMES {
                encoder.emit_u32(time)?;
            }
            encoder.emit_u32(TTL)
        };
        if asked {
            self.answer(&zone, RecordType::SOA, TTL, data)?;
        } else if self.record(&zone, RecordType::SOA, TTL, data)? {
            self.counts.authorities += 1;
        }
        Ok(())
    }

    /// Writes records of an upstream.
    pub(crate) fn records(&mut self, records: &[Record]) -> Result<()> {
        for record in records {
            let begin = self.encoder.offset();
            match record.emit(&mut self.encoder) {
                Ok(()) => self.counts.answers += 1,
                Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                    self.encoder.set_offset(begin);
                    self.encoder.trim();
                    self.metadata.truncation = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes an upstream's response with the id, question and limit of the client.
pub(crate) fn hand_on(
    question: &Question,
    message: &Message,
    limit: u16,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let header = Header::read(&mut BinDecoder::new(&message.bytes))?;
    let mut metadata = header.metadata;
    metadata.id = question.id;
    metadata.authoritative = false;
    metadata.recursion_desired = question.recursion_desired;
    metadata.recursion_available = true;
    let mut counts = header.counts;
    counts.queries = 1;
    let edns = question.edns.is_some();
    let records = &message.bytes[message.question_end..];
    let begin = 12 + question.name.len() + 4;
    // An error may come without the question. A message with compression pointers must not be
    // moved.
    let moved = begin != message.question_end;
    let length = begin + records.len() + if edns { usize::from(EDNS_LENGTH) } else { 0 };
    let cut = length > usize::from(limit);
    metadata.truncation = cut;
    if cut || moved {
        counts.answers = 0;
        counts.authorities = 0;
        counts.additionals = 0;
    }
    counts.additionals = counts.additionals.saturating_add(edns.into());
    buffer.clear();
    let mut encoder = BinEncoder::new(buffer);
    Header { metadata, counts }.emit(&mut encoder)?;
    encoder.emit_vec(&question.name)?;
    question.record_type.emit(&mut encoder)?;
    question.class.emit(&mut encoder)?;
    if !cut && !moved {
        encoder.emit_vec(records)?;
    }
    if edns {
        let mut edns = EdnsRecord::new();
        edns.set_max_payload(PAYLOAD);
        edns.emit(&mut encoder)?;
    }
    Ok(())
}

/// Writes the response to a packet that is not a query for us. Returns `false` if there is no
/// response.
pub(crate) fn refuse(refusal: &Refusal, buffer: &mut Vec<u8>) -> Result<bool> {
    buffer.clear();
    let (id, op_code, code) = match refusal {
        Refusal::Silence => return Ok(false),
        Refusal::Code(id, op_code, code) => (*id, *op_code, *code),
        Refusal::Version(id) => (*id, OpCode::Query, ResponseCode::BADVERS),
    };
    let mut metadata = Metadata::new(id, MessageType::Response, op_code);
    metadata.response_code = code;
    let mut counts = HeaderCounts::default();
    let mut encoder = BinEncoder::new(buffer);
    let versioned = matches!(refusal, Refusal::Version(_));
    counts.additionals = versioned.into();
    Header { metadata, counts }.emit(&mut encoder)?;
    if versioned {
        let mut edns = EdnsRecord::new();
        edns.set_max_payload(PAYLOAD);
        edns.set_rcode_high(code.high());
        edns.emit(&mut encoder)?;
    }
    Ok(true)
}

/// Returns all items of a list, beginning with the one that `turn` selects.
fn turned<T>(list: &[T], turn: u64) -> impl Iterator<Item = &T> {
    let at = match list.len() {
        0 => 0,
        length => usize::try_from(turn % length as u64).unwrap_or(0),
    };
    list[at..].iter().chain(&list[..at])
}
