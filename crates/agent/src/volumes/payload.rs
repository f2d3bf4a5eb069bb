//! What a volume of configuration holds: files from ConfigMaps, Secrets, the pod's own fields and tokens.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use runtime::bounded;

use super::atomic::File;
use super::{HeldToken, Origins, Tokens};
use crate::cluster::{PodRef, is_away, message};
use crate::container::{Surroundings, downward};

/// Mode of a file when neither it nor its volume says.
const DEFAULT_MODE: i32 = 0o644;
/// Mode of a token's file in a pod that names its user or group; the group may read it, too, where there is one.
const TOKEN_MODE: i32 = 0o600;
/// Life of a token that its volume does not say, in seconds.
const TOKEN_SECONDS: i64 = 3600;
/// A token is renewed when this share of its life is over, in percent.
const TOKEN_RENEWAL_PERCENT: i64 = 80;

/// Collects the files of one volume.
pub(super) struct Payload<'a> {
    origins: Origins<'a>,
    pod: &'a Pod,
    /// Where the volume lies.
    folder: &'a Path,
    identity: PodRef,
    surroundings: &'a Surroundings,
    tokens: &'a mut Tokens,
    files: BTreeMap<PathBuf, File>,
}

type Bytes = BTreeMap<String, Vec<u8>>;

impl<'a> Payload<'a> {
    pub(super) fn new(
        origins: Origins<'a>,
        pod: &'a Pod,
        folder: &'a Path,
        surroundings: &'a Surroundings,
        tokens: &'a mut Tokens,
    ) -> Self {
        Self {
            origins,
            pod,
            folder,
            identity: PodRef::of(pod),
            surroundings,
            tokens,
            files: BTreeMap::new(),
        }
    }

    pub(super) fn into_files(self) -> BTreeMap<PathBuf, File> {
        self.files
    }

    pub(super) async fn add_volume(&mut self, volume: &Volume) -> Result<(), String> {
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            return self
                .config_map(&source.name, &source.items, mode, source.optional)
                .await;
        }
        if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let name = source.secret_name.as_deref().unwrap_or_default();
            return self.secret(name, &source.items, mode, source.optional).await;
        }
        if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            return self.downward(source.items.iter().flatten(), mode);
        }
        if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            for projection in source.sources.iter().flatten() {
                self.projection(&volume.name, projection, mode).await?;
            }
        }
        Ok(())
    }

    async fn projection(&mut self, volume: &str, source: &VolumeProjection, mode: i32) -> Result<(), String> {
        if let Some(source) = &source.config_map {
            self.config_map(&source.name, &source.items, mode, source.optional)
                .await?;
        }
        if let Some(source) = &source.secret {
            self.secret(&source.name, &source.items, mode, source.optional)
                .await?;
        }
        if let Some(source) = &source.downward_api {
            self.downward(source.items.iter().flatten(), mode)?;
        }
        if let Some(source) = &source.service_account_token {
            self.token(volume, source, mode).await?;
        }
        if source.cluster_trust_bundle.is_some() || source.pod_certificate.is_some() {
            return Err("this node cannot project clusterTrustBundle or podCertificate".into());
        }
        Ok(())
    }

    async fn config_map(
        &mut self,
        name: &str,
        items: &Option<Vec<KeyToPath>>,
        mode: i32,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let found = self.origins.sources.config_map(&self.identity, name).await?;
        let data = found.map(|map| {
            let text = map.data.iter().flatten();
            let binary = map.binary_data.iter().flatten();
            let text = text.map(|(key, value)| (key.clone(), value.clone().into_bytes()));
            let binary = binary.map(|(key, value)| (key.clone(), value.0.clone()));
            text.chain(binary).collect()
        });
        self.keys(data, &format!("configmap \"{name}\""), items, mode, optional)
    }

    async fn secret(
        &mut self,
        name: &str,
        items: &Option<Vec<KeyToPath>>,
        mode: i32,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let found = self.origins.sources.secret(&self.identity, name).await?;
        let data = found.map(|secret| {
            let data = secret.data.iter().flatten();
            data.map(|(key, value)| (key.clone(), value.0.clone())).collect()
        });
        self.keys(data, &format!("secret \"{name}\""), items, mode, optional)
    }

    fn keys(
        &mut self,
        data: Option<Bytes>,
        source: &str,
        items: &Option<Vec<KeyToPath>>,
        mode: i32,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let optional = optional == Some(true);
        let data = match data {
            None if !optional => return Err(format!("{source} not found")),
            data => data.unwrap_or_default(),
        };
        let Some(items) = items.as_ref().filter(|items| !items.is_empty()) else {
            for (key, content) in data {
                self.file(&key, content, mode)?;
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(content) => self.file(&item.path, content.clone(), item.mode.unwrap_or(mode))?,
                None if optional => {}
                None => {
                    return Err(format!(
                        "references non-existent config key: {} ({source})",
                        item.key
                    ));
                }
            }
        }
        Ok(())
    }

    fn downward<'i>(
        &mut self,
        items: impl Iterator<Item = &'i DownwardAPIVolumeFile>,
        mode: i32,
    ) -> Result<(), String> {
        for item in items {
            let content = if let Some(field) = &item.field_ref {
                downward::field(self.pod, &field.field_path, self.surroundings)?
            } else if let Some(resource) = &item.resource_field_ref {
                downward::resource(self.pod, None, resource, self.surroundings)?
            } else {
                continue;
            };
            self.file(&item.path, content.into_bytes(), item.mode.unwrap_or(mode))?;
        }
        Ok(())
    }

    async fn token(
        &mut self,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        mode: i32,
    ) -> Result<(), String> {
        let key = (volume.to_owned(), source.path.clone());
        let now = Timestamp::now();
        let held = self.tokens.get(&key).filter(|held| now < held.renew_at);
        if let Some(held) = held {
            let token = held.token.clone();
            return self.token_file(&source.path, token.into_bytes(), mode);
        }
        let spec = self.pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let cluster = self.origins.cluster;
        let asked = cluster.token(&self.identity, account, source.audience.as_deref(), seconds);
        let fresh = match asked.await {
            Ok(fresh) => fresh,
            Err(error) => {
                let failed = format!("fetch service account token: {}", message(&error));
                let stale = self.stale_token(&source.path).filter(|_| is_away(&error));
                return self.token_file(&source.path, stale.ok_or(failed)?, mode);
            }
        };
        let life = fresh.expires.duration_since(now).as_secs();
        let renew_in = SignedDuration::from_secs(life.saturating_mul(TOKEN_RENEWAL_PERCENT) / 100);
        let held = HeldToken {
            token: fresh.token.clone(),
            renew_at: now.saturating_add(renew_in).unwrap_or(now),
        };
        self.tokens.insert(key, held);
        self.token_file(&source.path, fresh.token.into_bytes(), mode)
    }

    /// A token's file, as the kubelet makes it: where the pod names its user or a group of its volumes, nobody else reads it.
    fn token_file(&mut self, path: &str, content: Vec<u8>, mode: i32) -> Result<(), String> {
        let spec = self.pod.spec.as_ref();
        let user = spec.and_then(only_user);
        let context = spec.and_then(|spec| spec.security_context.as_ref());
        let group = context.and_then(|context| context.fs_group);
        let mode = match user.is_some() || group.is_some() {
            true => TOKEN_MODE,
            false => mode,
        };
        self.add(path, content, mode, user)
    }

    /// What stands in for a token that no server makes now: the one that is there, were it ended, since whom it could be shown to is away,
    /// too; or, for a pod of which no server was heard yet, an empty file, which the first contact fills. A pod that needs no server runs meanwhile.
    fn stale_token(&self, path: &str) -> Option<Vec<u8>> {
        let there = bounded::read(&self.folder.join(path), bounded::FILE).ok();
        there.or_else(|| self.surroundings.alone.then(Vec::new))
    }

    fn file(&mut self, path: &str, content: Vec<u8>, mode: i32) -> Result<(), String> {
        self.add(path, content, mode, None)
    }

    fn add(&mut self, path: &str, content: Vec<u8>, mode: i32, user: Option<u32>) -> Result<(), String> {
        let path = Path::new(path);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.as_os_str().is_empty() || path.starts_with("..data") {
            return Err(format!("path {path:?} must stay inside the volume"));
        }
        let mode = u32::try_from(mode).unwrap_or(0) & 0o777;
        self.files.insert(path.to_owned(), File { content, mode, user });
        Ok(())
    }
}

/// The user that all containers of a pod run as, if their specs name one and the same.
fn only_user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut users = containers.map(|container| {
        let own = container.security_context.as_ref();
        own.and_then(|context| context.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    let same = users.all(|user| user == Some(first));
    u32::try_from(first).ok().filter(|_| same)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::only_user;

    #[test]
    fn a_pod_has_one_user_when_all_its_containers_name_it() {
        let own = |user: i64| json!({"name": "c", "securityContext": {"runAsUser": user}});
        let plain = json!({"name": "c"});
        let cases = [
            (json!({"containers": [plain]}), None),
            (json!({"containers": [own(1000)]}), Some(1000)),
            (json!({"containers": [own(1000), plain]}), None),
            (json!({"containers": [own(1000), own(2000)]}), None),
            (
                json!({"securityContext": {"runAsUser": 7}, "containers": [plain, own(7)]}),
                Some(7),
            ),
            (json!({"containers": [own(7)], "initContainers": [own(8)]}), None),
        ];
        for (spec, user) in cases {
            let parsed = serde_json::from_value(spec.clone()).expect("a spec");
            assert_eq!(only_user(&parsed), user, "{spec}");
        }
    }
}
