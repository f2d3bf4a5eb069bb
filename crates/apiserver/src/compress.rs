//! Gzip compression of large responses, for clients that accept it, such as kubectl and other Go
//! clients.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, VARY};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::limits::{COMPRESSED_FROM_BYTES, FRAME_BYTES};

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Returns whether a client accepts gzip.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT_ENCODING).into_iter();
    let mut codings = texts
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','));
    codings.any(|coding| {
        let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameter.trim().strip_prefix("q=").map(str::parse::<f32>);
        name.trim() == "gzip" && quality != Some(Ok(0.0))
    })
}

/// Compresses a large response. A small one gains nothing, and an endless stream must not be
/// delayed in the compressor.
pub(crate) fn compress(response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::OK || !response.body().is_longer_than(COMPRESSED_FROM_BYTES) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, GZIP);
    parts
        .headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(parts, Body::long(Compressed::new(body)))
}

/// A body that compresses another body.
struct Compressed {
    body: Body,
    /// Bytes of the body that are not compressed yet.
    waiting: Bytes,
    /// `None` at the end of the body.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn new(body: Body) -> Compressed {
        Compressed {
            body,
            waiting: Bytes::new(),
            // Objects are so repetitive that the fastest level already compresses them to about a
            // tenth.
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(encoder) = &mut this.encoder else {
            return Poll::Ready(None);
        };
        if this.waiting.is_empty() {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => this.waiting = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    let last = this.encoder.take().map(GzEncoder::finish);
                    return Poll::Ready(last.map(|last| Ok(Frame::data(Bytes::from(last?)))));
                }
            }
        }
        let piece = this.waiting.split_to(this.waiting.len().min(FRAME_BYTES));
        encoder.write_all(&piece)?;
        let out = std::mem::take(encoder.get_mut());
        if out.is_empty() {
            // The compressor buffers its input until it has enough. Yields before the next piece.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))))
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_where_it_is_named() {
        let accepted = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, text.parse().unwrap());
            is_accepted(&headers)
        };
        for text in ["gzip", "deflate, gzip", "br;q=1.0, gzip;q=0.5"] {
            assert!(accepted(text), "{text}");
        }
        for text in ["", "identity", "deflate", "gzip;q=0", "x-gzip"] {
            assert!(!accepted(text), "{text}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn small_answers_and_failures_stay_as_they_are() {
        let answer = |code: u16, bytes: u64| {
            let mut response = Response::new(Body::whole(vec![b'x'; usize::try_from(bytes).unwrap()]));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            compress(response).headers().contains_key(CONTENT_ENCODING)
        };
        assert!(answer(200, COMPRESSED_FROM_BYTES + 1));
        assert!(!answer(200, COMPRESSED_FROM_BYTES));
        assert!(!answer(500, COMPRESSED_FROM_BYTES + 1));
    }
}
