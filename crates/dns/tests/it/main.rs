//! The server, asked by a client over sockets.

mod client;
mod cluster;
mod elsewhere;
mod packets;
mod upstream;
