//! Where objects come from. A source emits [`portolan_service::Change`]s and problems, nothing else.
