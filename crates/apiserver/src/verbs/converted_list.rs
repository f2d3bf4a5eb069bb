//! Lists that differ from the stored bytes: Tables, metadata, YAML, indented JSON, and kinds that
//! present another stored kind. Items are converted while the client reads, so a list needs the
//! memory of one frame and not of all its items as trees.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::status::Status;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use serde_json::Value;

use crate::body::{Body, BoxError};
use crate::limits::{COMPRESSED_FROM_BYTES, FRAME_BYTES};
use crate::negotiate::Encoding;
use crate::objects::Object;
use crate::respond::{self, Presenter};

/// Answers with a list of `objects`. Small lists are converted at once, so that their length is
/// known.
pub(crate) fn answer(
    presenter: Presenter,
    list_meta: Value,
    objects: Vec<Arc<Object>>,
) -> Result<Response<Body>, Status> {
    let stored: u64 = objects.iter().map(|object| object.body.len() as u64).sum();
    let mut list = Converted::new(presenter, list_meta, objects)?;
    let content_type = presenter.answer.content_type();
    if stored <= COMPRESSED_FROM_BYTES {
        let mut whole = Vec::new();
        while list.write_some(&mut whole, usize::MAX)? {}
        return Ok(respond::bytes_response(
            StatusCode::OK,
            content_type,
            whole.into(),
        ));
    }
    let mut response = respond::bytes_response(StatusCode::OK, content_type, Bytes::new());
    *response.body_mut() = Body::long(list);
    Ok(response)
}

/// Body of a converted list.
struct Converted {
    presenter: Presenter,
    encoding: Encoding,
    /// Bytes that precede the next item.
    before: Vec<u8>,
    objects: VecDeque<Arc<Object>>,
    is_over: bool,
}

/// End of an empty list that [`respond::write`] writes, from the bracket that closes the items.
const JSON_TAIL: &str = "]}";
const PRETTY_TAIL: &str = "]\n}";
/// The indentation of an item.
const PRETTY_INDENT: &str = "\n    ";

impl Converted {
    fn new(presenter: Presenter, list_meta: Value, objects: Vec<Arc<Object>>) -> Result<Converted, Status> {
        let (mut list, field) = presenter.empty_list(list_meta);
        let encoding = presenter.answer.encoding;
        let before = match encoding {
            Encoding::Json | Encoding::PrettyJson if objects.is_empty() => {
                respond::write(&list, encoding)?.to_vec()
            }
            Encoding::Json => head(&respond::write(&list, encoding)?, JSON_TAIL)?,
            Encoding::PrettyJson => head(&respond::write(&list, encoding)?, PRETTY_TAIL)?,
            Encoding::Yaml => {
                if let Some(fields) = list.as_object_mut() {
                    fields.remove(field);
                }
                let mut text = respond::write(&list, encoding)?.to_vec();
                if !text.ends_with(b"\n") {
                    text.push(b'\n');
                }
                let opening = if objects.is_empty() { ": []\n" } else { ":\n" };
                text.extend_from_slice(field.as_bytes());
                text.extend_from_slice(opening.as_bytes());
                text
            }
        };
        Ok(Converted {
            presenter,
            encoding,
            before,
            objects: objects.into(),
            is_over: false,
        })
    }

    /// Writes items until `out` has at least `bytes` bytes. Returns false at the end of the list.
    fn write_some(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<bool, Status> {
        while !self.is_over && out.len() < bytes {
            out.append(&mut self.before);
            match self.objects.pop_front() {
                Some(object) => self.write_item(out, &object)?,
                None => self.is_over = true,
            }
        }
        Ok(!self.is_over)
    }

    fn write_item(&mut self, out: &mut Vec<u8>, object: &Object) -> Result<(), Status> {
        let item = self.presenter.list_item(&object.body)?;
        let is_last = self.objects.is_empty();
        let after = match self.encoding {
            Encoding::Json => {
                out.extend_from_slice(item.to_string().as_bytes());
                if is_last { JSON_TAIL } else { "," }
            }
            Encoding::PrettyJson => {
                // JSON escapes line breaks inside strings, so each of these begins a line.
                let lines = format!("{item:#}").replace('\n', PRETTY_INDENT);
                out.extend_from_slice(PRETTY_INDENT.as_bytes());
                out.extend_from_slice(lines.as_bytes());
                if is_last { "\n  ]\n}" } else { "," }
            }
            // In YAML, a list of one item is also a part of the whole list.
            Encoding::Yaml => {
                out.extend_from_slice(&respond::write(&Value::Array(vec![item]), Encoding::Yaml)?);
                ""
            }
        };
        self.before.extend_from_slice(after.as_bytes());
        Ok(())
    }
}

/// Returns the bytes of an empty list up to the position of the items.
fn head(list: &Bytes, tail: &'static str) -> Result<Vec<u8>, Status> {
    let head = list.strip_suffix(tail.as_bytes());
    head.map(<[u8]>::to_vec)
        .ok_or_else(|| Status::internal("a list does not end with its items"))
}

impl http_body::Body for Converted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        if let Err(status) = this.write_some(&mut frame, FRAME_BYTES) {
            this.is_over = true;
            return Poll::Ready(Some(Err(status.message.into())));
        }
        Poll::Ready((!frame.is_empty()).then(|| Ok(Frame::data(frame.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
