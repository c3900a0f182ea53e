//! The database: sessions as a function's login role, and the host's own SQL.

pub mod session;
