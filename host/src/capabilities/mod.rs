//! What a component may import from the host, one folder for each interface.

pub mod postgres;
