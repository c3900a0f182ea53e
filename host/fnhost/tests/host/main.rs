//! The host's integration tests, as one executable: Wasmtime and librdkafka are linked once and not once for each file, and
//! tests of all files run side by side. They share the engine, Postgres and Kafka of the process; each has databases, topics and
//! folders of its own.

mod admin_tls;
mod audit;
mod deployment;
mod dispatch;
mod doctor;
mod earlier;
mod embedded;
mod engine;
mod gateway;
mod http;
mod imports;
mod progress;
mod retention;
mod support;
mod tidy;
