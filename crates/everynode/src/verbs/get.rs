//! `everynode get`: prints objects as the server's table, as YAML or as JSON.

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::client::connection::{ConnectArgs, Connection, JSON, TABLE, WatchEnd};
use crate::client::output::{self, Output};
use crate::client::resources::{Resource, Resources, Targets, escape};
use crate::client::table::{Printer, Shape};
use crate::client::whereabouts::namespace_hint;

/// Print objects
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// Types and optional names: `ds`, `ds NAME`, `ds/NAME`, `ds,pods`, `all`
    #[arg(required_unless_present = "raw", value_name = "TYPE [NAME] | TYPE/NAME")]
    targets: Vec<String>,

    /// Print the server's response for this path, unchanged
    #[arg(long, value_name = "PATH", conflicts_with = "targets")]
    raw: Option<String>,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,

    /// Keep printing changes
    #[arg(short, long)]
    watch: bool,

    /// Include all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Select objects by labels: `a=b,c!=d,e in (f,g)`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Select objects by fields: `spec.nodeName=a`
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,

    /// Print labels in the last column
    #[arg(long)]
    show_labels: bool,

    /// Print no header
    #[arg(long)]
    no_headers: bool,

    /// Succeed if an object does not exist
    #[arg(long)]
    ignore_not_found: bool,
}

/// A resource to print, and the object if one is named.
type Wanted<'a> = (&'a Resource, Option<String>);

impl Get {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        if let Some(path) = &self.raw {
            let answer = connection.send(Method::GET, path, "*/*", None).await?;
            let body = answer
                .into_body()
                .collect()
                .await
                .context("read the answer")?
                .to_bytes();
            return print(&body);
        }
        let resources = Resources::discover(&connection).await?;
        let mut wanted: Vec<Wanted> = Vec::new();
        for (kind, name) in Targets::parse(&self.targets)?.pairs {
            for resource in resources.in_category(&kind)? {
                wanted.push((resource, name.clone()));
            }
        }
        if self.all_namespaces
            && wanted
                .iter()
                .any(|(resource, name)| name.is_some() && resource.namespaced)
        {
            bail!("a resource cannot be retrieved by name across all namespaces");
        }
        match self.output {
            None | Some(Output::Wide) => self.tables(&connection, &wanted).await,
            Some(form) => self.objects(&connection, &wanted, form).await,
        }
    }

    fn path(&self, connection: &Connection, (resource, name): &Wanted, query: &[String]) -> String {
        let namespace = (!self.all_namespaces).then_some(connection.namespace.as_str());
        let mut query = query.to_vec();
        let mut fields: Vec<String> = self.field_selector.iter().cloned().collect();
        let watching = query.iter().any(|parameter| parameter == "watch=true");
        let path = match name {
            Some(name) if !watching => resource.object(&connection.namespace, name),
            Some(name) => {
                fields.push(format!("metadata.name={name}"));
                resource.collection(namespace)
            }
            None => resource.collection(namespace),
        };
        if let Some(selector) = &self.selector {
            query.push(format!("labelSelector={}", escape(selector)));
        }
        if !fields.is_empty() {
            query.push(format!("fieldSelector={}", escape(&fields.join(","))));
        }
        if query.is_empty() {
            path
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }

    /// Returns the response, or nothing if the object is missing and that is not an error.
    async fn fetch(
        &self,
        connection: &Connection,
        wanted: &Wanted<'_>,
        accept: &str,
    ) -> Result<Option<Value>> {
        let path = self.path(connection, wanted, &[]);
        match connection.request(Method::GET, &path, accept, None).await {
            Err(error) if self.ignore_not_found && crate::client::error::is_not_found(&error) => Ok(None),
            answer => answer.map(Some),
        }
    }

    async fn tables(&self, connection: &Connection, wanted: &[Wanted<'_>]) -> Result<()> {
        let several = wanted.len() > 1
            && wanted
                .iter()
                .any(|(resource, _)| resource.plural != wanted[0].0.plural);
        let mut printed = 0;
        let mut printers: Vec<(Printer, String, &Wanted)> = Vec::new();
        for target in wanted {
            let Some(table) = self.fetch(connection, target, TABLE).await? else {
                continue;
            };
            let rows = table["rows"].as_array().map_or(0, Vec::len);
            let (resource, _) = target;
            let shape = Shape {
                wide: self.output == Some(Output::Wide),
                namespace: self.all_namespaces && resource.namespaced,
                labels: self.show_labels,
                no_headers: self.no_headers,
                with_kind: several,
            };
            // Consecutive objects of one type share a table; another type begins a new one.
            let continues = printers
                .last()
                .is_some_and(|(_, _, last)| last.0.plural == resource.plural);
            if !continues {
                if printed > 0 && rows > 0 && several {
                    print(b"\n")?;
                }
                printers.push((Printer::new(shape, &resource.display()), String::new(), target));
            }
            let Some((printer, revision, _)) = printers.last_mut() else {
                continue;
            };
            *revision = table["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if rows > 0 {
                print(printer.render(&table).as_bytes())?;
            }
            printed += rows;
        }
        if printed == 0 && !self.watch && wanted.iter().all(|(_, name)| name.is_none()) {
            self.say_nothing_found(connection, wanted).await;
        }
        if !self.watch {
            return Ok(());
        }
        let [(printer, revision, target)] = printers.as_mut_slice() else {
            bail!("you may only specify a single resource type with --watch");
        };
        self.follow(connection, target, revision, TABLE, |event| {
            Ok(printer.render(event))
        })
        .await
    }

    async fn objects(&self, connection: &Connection, wanted: &[Wanted<'_>], form: Output) -> Result<()> {
        let mut items = Vec::new();
        let mut revision = String::new();
        for target in wanted {
            let Some(mut answer) = self.fetch(connection, target, JSON).await? else {
                continue;
            };
            answer["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut revision);
            let Some(list) = answer
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .map(std::mem::take)
            else {
                items.push(answer);
                continue;
            };
            // Items of a list have no kind of their own; a single object needs one.
            for mut item in list {
                item["apiVersion"] = target.0.api_version().into();
                item["kind"] = target.0.kind.clone().into();
                items.push(item);
            }
        }
        let single = matches!(wanted, [(_, Some(_))]);
        if form == Output::Name {
            for item in &items {
                let kind = item["kind"].as_str().unwrap_or_default();
                let resource = wanted
                    .iter()
                    .find(|(resource, _)| resource.kind == kind)
                    .unwrap_or(&wanted[0])
                    .0;
                print(output::object(form, resource, item)?.as_bytes())?;
            }
        } else if single && self.ignore_not_found && items.is_empty() {
            return Ok(());
        } else {
            let shown = if single {
                items.pop().unwrap_or(Value::Null)
            } else {
                output::list(items)
            };
            print(output::object(form, wanted[0].0, &shown)?.as_bytes())?;
        }
        if !self.watch {
            return Ok(());
        }
        let [target] = wanted else {
            bail!("you may only specify a single resource type with --watch");
        };
        let separator = if form == Output::Yaml { "---\n" } else { "" };
        self.follow(connection, target, &revision, JSON, |object| {
            Ok(format!("{separator}{}", output::object(form, target.0, object)?))
        })
        .await
    }

    /// Prints changes after `revision` until the server or the user ends the watch.
    async fn follow(
        &self,
        connection: &Connection,
        target: &Wanted<'_>,
        revision: &str,
        accept: &str,
        mut render: impl FnMut(&Value) -> Result<String>,
    ) -> Result<()> {
        let query = ["watch=true".to_owned(), format!("resourceVersion={revision}")];
        let path = self.path(connection, target, &query);
        let never = connection.watch(&path, accept, |_, object| {
            print(render(object)?.as_bytes())?;
            Ok(None::<std::convert::Infallible>)
        });
        match never.await? {
            WatchEnd::Ended(None) => Ok(()),
            WatchEnd::Ended(Some(why)) => bail!("the watch ended: {why}"),
            WatchEnd::Answer(never) => match never {},
        }
    }

    async fn say_nothing_found(&self, connection: &Connection, wanted: &[Wanted<'_>]) {
        if self.ignore_not_found {
            return;
        }
        if self.all_namespaces || wanted.iter().all(|(resource, _)| !resource.namespaced) {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", connection.namespace);
            if let Some(hint) = namespace_hint(connection).await {
                eprintln!("{hint}");
            }
        }
    }
}

/// Writes to standard output and flushes. If the reader has closed it (`| head`), the program ends
/// without an error.
pub(crate) fn print(text: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context("write to standard output"),
    }
}
