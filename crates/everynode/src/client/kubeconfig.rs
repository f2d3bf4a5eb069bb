//! Selects the kubeconfig of a verb and its context.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Default path of the administrator's kubeconfig that `everynode server` and `everynode up` write.
const ADMIN_KUBECONFIG: &str = "/var/lib/everynode/admin.kubeconfig";

/// Configuration of a client, and its source.
pub(crate) struct Source {
    pub(crate) config: kube::Config,
    /// Path of a file, several paths with `:` between them, or `the pod's service account`.
    pub(crate) from: String,
}

/// Reads the first configuration that exists: `file` (the flag), $KUBECONFIG, `~/.kube/config`, the
/// service account of a pod, then the file of a server on this machine. `context` replaces the
/// current context.
pub(crate) async fn read(file: Option<&Path>, context: Option<&str>) -> Result<Source> {
    let Some((kubeconfig, from)) = find(file)? else {
        let config = kube::Config::incluster().context("read the pod's service account")?;
        return Ok(Source {
            config,
            from: "the pod's service account".to_owned(),
        });
    };
    let context = check_context(&kubeconfig, context, &from)?;
    let options = KubeConfigOptions {
        context: Some(context),
        ..KubeConfigOptions::default()
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("use kubeconfig {from}"))?;
    Ok(Source { config, from })
}

/// Returns the kubeconfig and its file; `None` for the service account of a pod.
fn find(file: Option<&Path>) -> Result<Option<(Kubeconfig, String)>> {
    let read = |path: &Path| -> Result<Option<(Kubeconfig, String)>> {
        let from = path.display().to_string();
        let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read kubeconfig {from}"))?;
        Ok(Some((kubeconfig, from)))
    };
    if let Some(path) = file {
        return read(path);
    }
    if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        let from = list.display().to_string();
        let kubeconfig =
            Kubeconfig::from_env().with_context(|| format!("read kubeconfig {from} ($KUBECONFIG)"))?;
        return Ok(Some((kubeconfig.unwrap_or_default(), from)));
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    if let Some(path) = home.filter(|path| path.exists()) {
        return read(&path);
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Ok(None);
    }
    let own = Path::new(ADMIN_KUBECONFIG);
    if own.exists() {
        return read(own);
    }
    bail!("no kubeconfig found. Use --kubeconfig FILE or KUBECONFIG; on the server, run this as root");
}

/// Returns the name of the context to use. Fails if the kubeconfig does not have it.
fn check_context(kubeconfig: &Kubeconfig, asked: Option<&str>, from: &str) -> Result<String> {
    let names: Vec<&str> = kubeconfig.contexts.iter().map(|context| &*context.name).collect();
    let listed = match names.as_slice() {
        [] => "it has none".to_owned(),
        names => format!("it has: {}", names.join(", ")),
    };
    let current = kubeconfig
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty());
    match asked.or(current) {
        Some(name) if names.contains(&name) => Ok(name.to_owned()),
        Some(name) => bail!("context {name:?} is not in {from}; {listed}"),
        None => bail!("{from} names no current context: choose one with --context; {listed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(current: &str) -> Kubeconfig {
        let text = format!(
            "{{contexts: [{{name: admin, context: {{cluster: c, user: u}}}}, {{name: view, context: {{cluster: c, user: v}}}}], current-context: {current:?}}}"
        );
        Kubeconfig::from_yaml(&text).expect("a kubeconfig")
    }

    #[test]
    fn a_missing_context_names_those_that_exist() {
        let refused = |kubeconfig: &Kubeconfig, asked| {
            check_context(kubeconfig, asked, "/etc/k")
                .expect_err("it is missing")
                .to_string()
        };
        assert_eq!(
            check_context(&kubeconfig("admin"), None, "/etc/k").expect("current"),
            "admin"
        );
        assert_eq!(
            check_context(&kubeconfig("admin"), Some("view"), "/etc/k").expect("asked"),
            "view"
        );
        assert_eq!(
            refused(&kubeconfig("admin"), Some("nope")),
            "context \"nope\" is not in /etc/k; it has: admin, view"
        );
        assert_eq!(
            refused(&kubeconfig(""), None),
            "/etc/k names no current context: choose one with --context; it has: admin, view"
        );
        assert_eq!(
            refused(&Kubeconfig::default(), Some("a")),
            "context \"a\" is not in /etc/k; it has none"
        );
    }
}
