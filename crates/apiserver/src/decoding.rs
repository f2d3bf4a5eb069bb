//! Decoding of request bodies.
//!
//! JSON and protobuf are decoded in place: the largest body takes about 50 ms. YAML takes up to
//! forty times as long, so it has separate threads, which the users share fairly.

use std::sync::{Arc, LazyLock};

use api::status::Status;
use bytes::Bytes;
use schema::Type;
use schema::decode::{self, Decoded, FieldValidation, Format};

use crate::flow::{self, Bounds, FairQueue, Held};
use crate::limits::QUEUE_TIMEOUT;
use crate::user::User;

/// YAML bodies that are decoded at the same time. With two, a user whose bodies take long delays
/// neither other users' YAML nor the requests that use the other processors.
const YAML_BODIES: usize = 2;

/// YAML bodies of one user that are decoded at the same time.
const YAML_BODIES_OF_USER: usize = 1;

/// YAML bodies of one user that are decoded or wait. Their memory is bounded elsewhere: a body
/// counts towards the bytes that its user may hold.
const YAML_BODIES_PRESENT_OF_USER: usize = 64;

/// YAML bodies of all users that are decoded or wait.
const YAML_BODIES_PRESENT: usize = 1024;

static YAML: LazyLock<Arc<FairQueue>> = LazyLock::new(|| {
    FairQueue::new(Bounds {
        seats: YAML_BODIES,
        flow_seats: YAML_BODIES_OF_USER,
        present: YAML_BODIES_PRESENT,
        flow_present: YAML_BODIES_PRESENT_OF_USER,
        held: Held::default(),
    })
});

/// Decodes the body of a request of `user`, as [`decode::object`] does.
pub(crate) async fn object(
    user: &User,
    body: &Bytes,
    format: Format,
    ty: Option<&'static Type>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let decoded = if format == Format::Yaml {
        let mut ticket = YAML.enter(&user.name).map_err(flow::busy)?;
        ticket.seat(QUEUE_TIMEOUT).await.map_err(flow::busy)?;
        let body = body.clone();
        let decoding = tokio::task::spawn_blocking(move || {
            let decoded = decode::object(&body, format, ty, validation);
            // A client that leaves must not free the seat before the work is done.
            drop(ticket);
            decoded
        });
        decoding
            .await
            .map_err(|error| Status::internal(format!("decode a YAML body: {error}")))?
    } else {
        decode::object(body, format, ty, validation)
    };
    decoded.map_err(|error| Status::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const BODY: &[u8] = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";

    fn user(name: &str) -> User {
        User {
            name: name.to_owned(),
            ..User::anonymous()
        }
    }

    async fn decode(user: &User) -> Result<Decoded, Status> {
        let (body, validation) = (Bytes::from_static(BODY), FieldValidation::Strict);
        object(
            user,
            &body,
            Format::Yaml,
            schema::lookup("", "v1", "ConfigMap"),
            validation,
        )
        .await
    }

    #[tokio::test]
    async fn yaml_of_one_user_does_not_delay_that_of_others() {
        let (slow, other) = (user("slow"), user("other"));
        let mut slow_body = YAML.enter(&slow.name).expect("the queue has room");
        slow_body.seat(QUEUE_TIMEOUT).await.expect("a seat is free");
        let mut waiting = std::pin::pin!(decode(&slow));
        assert!(waiting.as_mut().now_or_never().is_none());
        let decoded = decode(&other).await.expect("the other user gets a seat");
        assert_eq!(decoded.value["metadata"]["name"], "c");
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(slow_body);
        assert!(waiting.await.is_ok());
    }
}
