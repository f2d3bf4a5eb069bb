//! namespaces/finalize: the namespace controller reports that a namespace is empty.

use api::kinds::core::namespace;
use api::meta;
use api::status::Status;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::objects::Place;
use crate::request::{Request, WriteOptions};
use crate::respond;
use crate::shared::Shared;
use crate::write;

/// Replaces `spec.finalizers`. Removes a terminating namespace that has no finalizers.
pub(crate) async fn finalize(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "UpdateOptions")?;
    let mut given = request.decode_object(options.field_validation).await?;
    request.target.kind.default(&mut given);
    let target = &request.target;
    let place = Place {
        kind: target.kind,
        namespace: "",
        name: &target.name,
    };
    let payload = write::update(shared, place, options.dry_run, |old, _| {
        let (wanted, found) = (meta::uid(&given), meta::uid(old));
        if !wanted.is_empty() && wanted != found {
            return Err(Status::uid_mismatch(place.kind, place.name, wanted, found));
        }
        let version = meta::resource_version(&given);
        if !version.is_empty() && version != meta::resource_version(old) {
            return Err(Status::modified(place.kind, place.name));
        }
        let mut new = given.clone();
        namespace::prepare_finalize(&mut new, old);
        let errors = namespace::validate_finalize(&new, old);
        if !errors.is_empty() {
            return Err(Status::invalid(place.kind, place.name, &errors));
        }
        Ok(new)
    })
    .await?;
    respond::payload(&request, StatusCode::OK, &payload)
}
