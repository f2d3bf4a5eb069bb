//! Serves a data directory: `cargo run -p apiserver --example serve -- DIR ADDRESS`.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut args = std::env::args().skip(1);
    let data_dir = args.next().ok_or("which directory?")?.into();
    let listen = args.next().as_deref().unwrap_or("127.0.0.1:6443").parse()?;
    let server = apiserver::Server::start(apiserver::Config {
        data_dir,
        listen,
        names: Vec::new(),
    })
    .await?;
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
