//! The fields of a line of text without colours, in the spelling of tracing-subscriber's [`DefaultFields`], without its price: that one sends
//! every name through the styles that it has for terminals and every text through the escapes that few texts need, which for the line of
//! an issued certificate is a tenth of all that the server adds to the cryptography.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, DefaultVisitor, Writer};

/// Writes the fields of events and spans.
#[derive(Debug, Default)]
pub struct TextFields(DefaultFields);

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        if writer.has_ansi_escapes() {
            return self.0.format_fields(writer, fields);
        }
        let mut visitor = Plain {
            writer,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Plain<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Plain<'_> {
    /// Leaves a field to the library: one whose name or kind it treats in its own way.
    fn by_default(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        if self.result.is_ok() {
            let mut visitor = DefaultVisitor::new(self.writer.by_ref(), std::mem::take(&mut self.is_first));
            record(&mut visitor);
            self.result = visitor.finish();
        }
    }

    fn plain(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let is_first = std::mem::take(&mut self.is_first);
        self.result = self.result.and_then(|()| {
            if !is_first {
                self.writer.write_char(' ')?;
            }
            self.writer.write_str(field.name())?;
            self.writer.write_char('=')?;
            value(&mut self.writer)
        });
    }
}

fn is_special(field: &Field) -> bool {
    field.name() == "message" || field.name().starts_with("r#")
}

impl Visit for Plain<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if is_special(field) || !value.bytes().all(is_plain) {
            return self.by_default(|visitor| visitor.record_str(field, value));
        }
        self.plain(field, |writer| {
            writer.write_char('"')?;
            writer.write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.by_default(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if is_special(field) {
            return self.by_default(|visitor| visitor.record_debug(field, value));
        }
        self.plain(field, |writer| write!(writer, "{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Memory {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed\x1b")]
    struct Failed(#[source] fmt::Error);

    fn logged<F>(fields: F, colours: bool, log: fn()) -> String
    where
        F: for<'writer> FormatFields<'writer> + Send + Sync + 'static,
    {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(fields)
            .without_time()
            .with_ansi(colours)
            .with_writer(memory.clone());
        tracing::subscriber::with_default(subscriber.finish(), log);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    /// Whatever this writes, the library would have written.
    #[test]
    fn writes_what_the_library_writes() {
        fn log() {
            let error: &(dyn std::error::Error + 'static) = &Failed(fmt::Error);
            let span = tracing::info_span!("span", number = 1, text = "t");
            let _inside = span.enter();
            tracing::info!("only a message");
            tracing::info!(
                number = -1,
                yes = true,
                large = u64::MAX,
                share = 0.5,
                text = "plain words",
                "message"
            );
            tracing::info!(
                empty = "",
                quoted = "\"",
                back = "\\",
                line = "a\nb",
                bell = "\x1b[31m",
                letter = "é",
                del = "\x7f"
            );
            tracing::info!(display = %"a \"b\"", debug = ?"a\n\"b\"", none = None::<u64>, some = Some("x"), error, "last\x1b");
            tracing::info!(r#type = "x", r#move = 3, message = "said");
            tracing::info!(error, after = 1);
        }
        for colours in [false, true] {
            let (ours, theirs) = (
                logged(TextFields::default(), colours, log),
                logged(DefaultFields::new(), colours, log),
            );
            assert_eq!(ours, theirs);
            assert_eq!(ours.lines().count(), 6, "{ours}");
        }
    }
}
