//! create: a new object.

use api::kinds::{Kind, certificates};
use api::meta;
use api::status::Status;
use http::{Response, StatusCode};
use serde_json::Value;
use store::{Change, CommitError, Durability, Expect};

use crate::admission;
use crate::body::Body;
use crate::limits::GENERATE_NAME_TRIES_MAX;
use crate::objects::{self, Write};
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::write;

/// Creates the object in the body.
pub(crate) async fn create(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let mut object = request.decode_object(options.field_validation).await?;
    request.settle_namespace(&mut object)?;
    let payload = create_object(shared, &mut request, object, options).await?;
    respond::payload(&request, StatusCode::CREATED, &payload)
}

/// Creates a decoded object whose namespace is settled.
pub(crate) async fn create_object(
    shared: &Shared,
    request: &mut Request,
    mut object: Value,
    options: WriteOptions,
) -> Result<Payload, Status> {
    let kind = request.target.kind;
    if !matches!(meta::resource_version(&object), "" | "0") {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    meta::stamp_create(&mut object, &shared.uid()?, request.now);
    meta::metadata_mut(&mut object).remove("managedFields");
    let generated = meta::name(&object).is_empty() && !meta::generate_name_base(&object).is_empty();
    if generated {
        set_generated_name(shared, &mut object)?;
    }
    kind.default(&mut object);
    // The warnings come before the preparation, because that corrects some of their causes.
    request.warnings.extend(kind.warnings(&object));
    kind.prepare_create(&mut object);
    if *kind == certificates::CERTIFICATE_SIGNING_REQUEST {
        let user = &request.user;
        let requestor = certificates::Requestor {
            name: &user.name,
            uid: &user.uid,
            groups: &user.all_groups(),
            extra: &user.extra,
        };
        certificates::set_requestor(&mut object, requestor);
    }
    // Some kinds get a unique value here. The guard is held until the commit has ended.
    let _allocation = admission::on_create(shared, &request.user, kind, &mut object).await?;
    // Generated names differ only in their last letters, so one validation is enough.
    let errors = kind.validate(&object);
    if !errors.is_empty() {
        return Err(Status::invalid(kind, meta::name(&object), &errors));
    }
    admission::judge_create(shared, kind, &object, &mut request.warnings)?;
    for _ in 0..GENERATE_NAME_TRIES_MAX {
        match store_new(shared, kind, &object, options.dry_run).await? {
            Outcome::Created(payload) => return Ok(payload),
            Outcome::Taken if generated => set_generated_name(shared, &mut object)?,
            Outcome::Taken => return Err(Status::already_exists(kind, meta::name(&object))),
        }
    }
    Err(Status::generate_name_conflict(kind, meta::name(&object)))
}

fn set_generated_name(shared: &Shared, object: &mut Value) -> Result<(), Status> {
    let name = meta::generate_name(meta::generate_name_base(object), shared.random()?);
    meta::metadata_mut(object).insert("name".to_owned(), name.into());
    Ok(())
}

enum Outcome {
    Created(Payload),
    Taken,
}

async fn store_new(
    shared: &Shared,
    kind: &'static Kind,
    object: &Value,
    dry_run: bool,
) -> Result<Outcome, Status> {
    let key = objects::key(kind, meta::namespace(object), meta::name(object));
    let (body, attributes) = objects::stored_form(kind, object);
    if dry_run {
        return Ok(match shared.objects.get(key.as_str()) {
            Some(_) => Outcome::Taken,
            None => Outcome::Created(Payload::Bytes(body)),
        });
    }
    let write = Write {
        key,
        expect: Expect::Absent,
        change: Change::Put { body, attributes },
    };
    match shared.objects.commit(vec![write], Durability::Durable).await {
        Ok(written) => write::single(written).map(|object| Outcome::Created(Payload::Stored(object))),
        Err(CommitError::Conflict { .. }) => Ok(Outcome::Taken),
        Err(error) => Err(write::commit_failed(&error)),
    }
}
