//! Parses queries and determines the form of the response.

use hickory_proto::op::{Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use plan::dns_records::Kind;

/// Most labels of a name of 255 bytes.
pub(crate) const LABELS: usize = 127;
/// UDP payload that every client accepts, in bytes.
const LEAST_PAYLOAD: u16 = 512;
/// Largest UDP payload that we send, in bytes, to avoid fragmentation (DNS flag day 2020).
const MOST_PAYLOAD: u16 = 1232;

/// One query.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) id: u16,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    /// The name as in the query, uncompressed, with its root label.
    pub(crate) name: Vec<u8>,
    /// The name in lower case.
    pub(crate) lower: Vec<u8>,
    pub(crate) record_type: RecordType,
    pub(crate) class: DNSClass,
    pub(crate) edns: Option<Edns>,
}

/// EDNS options of the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edns {
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
}

/// Reason why a packet is not a query that we answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No response: the packet is a response, or has no header.
    Silence,
    /// An error without a question section.
    Code(u16, OpCode, ResponseCode),
    /// An unsupported EDNS version.
    Version(u16),
}

impl Question {
    /// Parses a packet.
    pub(crate) fn read(packet: &[u8]) -> Result<Question, Refusal> {
        let mut decoder = BinDecoder::new(packet);
        let header = Header::read(&mut decoder).map_err(|_| Refusal::Silence)?;
        if header.message_type == MessageType::Response {
            return Err(Refusal::Silence);
        }
        let refuse = |code| Refusal::Code(header.id, header.op_code, code);
        if header.op_code != OpCode::Query {
            return Err(refuse(ResponseCode::NotImp));
        }
        if header.counts.queries != 1 {
            return Err(refuse(ResponseCode::FormErr));
        }
        let malformed = |_| refuse(ResponseCode::FormErr);
        let query = Query::read(&mut decoder).map_err(malformed)?;
        let mut records = |count: u16, additional| {
            Message::read_records(&mut decoder, count.into(), additional, header.op_code).map_err(malformed)
        };
        records(header.counts.answers, false)?;
        records(header.counts.authorities, false)?;
        let (_, edns, _) = records(header.counts.additionals, true)?;
        if edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Err(Refusal::Version(header.id));
        }
        let mut name = Vec::with_capacity(query.name.len() + 1);
        for label in query.name.iter() {
            // The parser accepts at most 63 bytes for a label.
            name.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            name.extend_from_slice(label);
        }
        name.push(0);
        Ok(Question {
            id: header.id,
            recursion_desired: header.recursion_desired,
            checking_disabled: header.checking_disabled,
            lower: name.to_ascii_lowercase(),
            name,
            record_type: query.query_type,
            class: query.query_class,
            edns: edns.map(|edns| Edns {
                payload: edns.max_payload(),
                dnssec_ok: edns.flags().dnssec_ok,
            }),
        })
    }

    /// Returns the longest response by UDP, in bytes.
    pub(crate) fn udp_limit(&self) -> u16 {
        let asked = self.edns.map_or(LEAST_PAYLOAD, |edns| edns.payload);
        asked.clamp(LEAST_PAYLOAD, MOST_PAYLOAD)
    }

    /// Returns the kind of record, for names of the cluster.
    pub(crate) fn kind(&self) -> Kind {
        match self.record_type {
            RecordType::A => Kind::V4,
            RecordType::AAAA => Kind::V6,
            RecordType::SRV => Kind::Service,
            RecordType::PTR => Kind::Pointer,
            RecordType::TXT => Kind::Text,
            RecordType::NS => Kind::NameServer,
            RecordType::SOA => Kind::Authority,
            _ => Kind::Other,
        }
    }
}

/// Returns the labels of an uncompressed name; `None` if they are not UTF-8. Names of the cluster
/// always are.
pub(crate) fn labels<'a>(name: &'a [u8], room: &'a mut [&'a str; LABELS]) -> Option<&'a [&'a str]> {
    let mut rest = name;
    let mut count = 0;
    while let Some((&length, after)) = rest.split_first() {
        if length == 0 {
            break;
        }
        let (label, after) = after.split_at_checked(length.into())?;
        *room.get_mut(count)? = std::str::from_utf8(label).ok()?;
        count += 1;
        rest = after;
    }
    Some(&room[..count])
}

/// Converts a dotted name to the wire format in lower case; `None` if it is not valid.
pub(crate) fn wire_name(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len() + 2);
    for label in text.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        name.push(length);
        name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    name.push(0);
    (name.len() <= 255).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_s_labels_are_found_again() {
        let name = wire_name("Web.shop.svc.").expect("a name");
        assert_eq!(name, b"\x03web\x04shop\x03svc\0");
        let mut room = [""; LABELS];
        assert_eq!(labels(&name, &mut room), Some(["web", "shop", "svc"].as_slice()));
        assert_eq!(wire_name("a..b"), None);
        assert_eq!(wire_name(&"a".repeat(64)), None);
        assert_eq!(wire_name(&["a"; 128].join(".")), None);
    }
}
