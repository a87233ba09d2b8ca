//! Light servers: what is promised of any server, and restarts in place.

mod ends;
mod lamp;
mod limits;
mod shown;
mod starts;
