//! Tests of the server over sockets.

mod client;
mod cluster;
mod elsewhere;
mod packets;
mod upstream;
