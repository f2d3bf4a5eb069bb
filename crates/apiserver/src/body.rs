//! Bodies of requests and responses.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::connections::{Active, Progress};
use crate::flow::Ticket;
use crate::limits::FRAME_BYTES;
use crate::rights::Rights;

/// Any error of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of a request or response: complete bytes, or a stream.
pub(crate) struct Body {
    kind: Kind,
    /// What the body of a response holds until it is sent.
    hold: Option<Arc<Hold>>,
}

enum Kind {
    Whole(Option<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
    /// A stream of unknown length that is known to be long.
    Long(UnsyncBoxBody<Bytes, BoxError>),
}

/// Resources that a response holds until it is sent or its client disconnects, such as the
/// request's ticket.
pub(crate) struct Hold {
    pub(crate) _ticket: Option<Ticket>,
    pub(crate) active: Active,
    /// Progress of a response that its client must read in time.
    pub(crate) progress: Option<Arc<Progress>>,
}

/// The bytes of a frame. They hold the response's resources, because HTTP/2 buffers the last frame
/// of a response long before the client reads it.
struct Unsent {
    bytes: Bytes,
    _hold: Arc<Hold>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body {
    /// Returns an empty body.
    pub(crate) fn empty() -> Body {
        Body::of(Kind::Whole(None))
    }

    /// Returns a body with these bytes.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        Body::of(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    /// Returns a body that streams `body`.
    pub(crate) fn stream<B>(body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body::of(Kind::Stream(body.map_err(Into::into).boxed_unsync()))
    }

    /// Returns a body that streams `body`, which has more than a few frames.
    pub(crate) fn long<B>(body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body::of(Kind::Long(body.map_err(Into::into).boxed_unsync()))
    }

    fn of(kind: Kind) -> Body {
        Body { kind, hold: None }
    }

    /// Ends the body when `rights` end.
    pub(crate) fn until(self, rights: Option<Rights>) -> Body {
        let Some(mut rights) = rights else {
            return self;
        };
        Body::stream(Until {
            body: self,
            end: Some(Box::pin(async move { rights.end().await })),
        })
    }

    /// Attaches `hold` to the body.
    pub(crate) fn holding(mut self, hold: Hold) -> Body {
        self.hold = Some(Arc::new(hold));
        self
    }

    /// Returns whether the body is longer than `bytes`. False for a stream of unknown length.
    pub(crate) fn is_longer_than(&self, bytes: u64) -> bool {
        match &self.kind {
            Kind::Long(_) => true,
            Kind::Whole(_) | Kind::Stream(_) => http_body::Body::size_hint(self)
                .exact()
                .is_some_and(|length| length > bytes),
        }
    }
}

/// A body that ends when a future completes.
struct Until {
    body: Body,
    /// `None` once the future has completed.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this
            .end
            .as_mut()
            .is_some_and(|end| end.as_mut().poll(cx).is_ready())
        {
            this.end = None;
        }
        match this.end {
            Some(_) => Pin::new(&mut this.body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            // Splits the body into frames: a connection reads frames as its client does, and
            // buffers them.
            Kind::Whole(Some(bytes)) if this.hold.is_some() && bytes.len() > FRAME_BYTES => {
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(FRAME_BYTES)))))
            }
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) | Kind::Long(body) => Pin::new(body).poll_frame(cx),
        };
        let Some(hold) = &this.hold else {
            return frame;
        };
        let Some(progress) = &hold.progress else {
            return frame;
        };
        frame.map_ok(|frame| {
            hold.active
                .connection()
                .took(progress, frame.data_ref().map_or(0, Bytes::len));
            frame.map_data(|bytes| {
                Bytes::from_owner(Unsent {
                    bytes,
                    _hold: hold.clone(),
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Stream(body) | Kind::Long(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Stream(body) | Kind::Long(body) => body.size_hint(),
        }
    }
}
