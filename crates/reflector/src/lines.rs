//! Lines of a watch's body.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest accepted line. The server accepts no object above 3 MiB, so a longer line is not a watch
/// event.
const LINE_LIMIT: usize = 8 << 20;

/// Failure that ended the body of a watch early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("a line is longer than {LINE_LIMIT} bytes")]
    TooLong,
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a line is no watch event")]
    NotAnEvent(#[source] serde_json::Error),
}

/// `type` of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Type {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// One line: its type and the text of its object. The caller parses the object.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: Type,
    #[serde(borrow)]
    pub(crate) object: &'a RawValue,
}

/// Splits a body into lines. It returns all lines that have arrived together, so a burst is one
/// batch.
pub(crate) struct Lines<B> {
    body: B,
    rest: BytesMut,
}

impl<B> Lines<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) fn new(body: B) -> Self {
        Self {
            body,
            rest: BytesMut::new(),
        }
    }

    /// Returns the next complete lines, at least one, or `None` at the end of the body.
    /// Cancel-safe: data that has arrived is kept.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| LineError::Broken(e.into()))?;
            let Ok(mut data) = frame.into_data() else { continue };
            let Some(end) = data.iter().rposition(|b| *b == b'\n') else {
                self.keep(&data)?;
                continue;
            };
            if self.rest.is_empty() {
                // The usual case: complete lines, returned without a copy.
                let lines = data.split_to(end + 1);
                self.keep(&data)?;
                return Ok(Some(lines));
            }
            self.rest.extend_from_slice(&data[..=end]);
            data.advance(end + 1);
            let lines = self.rest.split().freeze();
            self.keep(&data)?;
            return Ok(Some(lines));
        }
    }

    fn keep(&mut self, data: &[u8]) -> Result<(), LineError> {
        if self.rest.len() + data.len() > LINE_LIMIT {
            return Err(LineError::TooLong);
        }
        self.rest.extend_from_slice(data);
        Ok(())
    }
}

/// Parses each line of a batch.
pub(crate) fn parse(lines: &[u8]) -> impl Iterator<Item = Result<Line<'_>, LineError>> {
    lines
        .split(|b| *b == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| serde_json::from_slice(line).map_err(LineError::NotAnEvent))
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    async fn collect(chunks: &'static [&'static str]) -> Vec<String> {
        let frames = chunks
            .iter()
            .map(|c| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(c.as_bytes()))));
        let mut lines = Lines::new(StreamBody::new(stream::iter(frames)));
        let mut all = Vec::new();
        while let Some(batch) = lines.next().await.expect("no error") {
            all.push(String::from_utf8(batch.to_vec()).expect("text"));
        }
        all
    }

    #[tokio::test]
    async fn a_line_that_comes_in_pieces_is_one_line() {
        assert_eq!(
            collect(&["ab", "c\nd", "e\n", "f\ng\n"]).await,
            ["abc\n", "de\n", "f\ng\n"]
        );
    }

    #[test]
    fn a_line_tells_its_type_and_leaves_the_object_to_its_reader() {
        let text = br#"{"type":"ADDED","object":{"a":1}}"#;
        let lines: Vec<_> = parse(text).collect();
        let [Ok(line)] = lines.as_slice() else {
            panic!("one line")
        };
        assert_eq!((line.kind, line.object.get()), (Type::Added, r#"{"a":1}"#));
    }
}
