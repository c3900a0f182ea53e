//! What a notification says. Pure.

use contract::event::Notice;
use uuid::Uuid;

/// Characters that fit one SMS.
pub const SMS_CHARS_MAX: usize = 160;

/// The texts of one notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The subject of the e-mail, and all of the log's line.
    pub subject: &'static str,
    /// The text of the e-mail.
    pub email_text: String,
    /// The text of the SMS, within [`SMS_CHARS_MAX`].
    pub sms_text: String,
}

/// What is told about an order. The reason reaches only the e-mail: it may be long, and an SMS is not.
#[must_use]
pub fn render(notice: Notice, order_id: Uuid, reason: Option<&str>) -> Notification {
    let subject = match notice {
        Notice::Confirmed => "Your order is confirmed!",
        Notice::Rejected => "Your order was rejected.",
        Notice::PaymentFailed => "The payment for your order failed.",
        Notice::Cancelled => "Your order is cancelled.",
        Notice::Expired => "Your order could not be completed in time.",
        Notice::Refunded => "The payment for your order was refunded.",
    };
    let what_follows = match notice {
        Notice::Confirmed => "We are packing it now.",
        Notice::Rejected => "We could not deliver it, and nothing was charged.",
        Notice::PaymentFailed => "Nothing was charged; you can order again with another means of payment.",
        Notice::Cancelled => "What was paid comes back to you.",
        Notice::Expired => "Nothing was charged; you can order again.",
        Notice::Refunded => "Your bank will show the money in a few days.",
    };
    let reason = reason.map(|reason| format!("Reason: {reason}\n")).unwrap_or_default();
    Notification {
        subject,
        email_text: format!("{subject}\n\n{what_follows}\n{reason}\nOrder {order_id}\n"),
        sms_text: format!("{subject} Order {order_id}"),
    }
}

/// The line of the log that stands for sending to this user.
#[must_use]
pub fn line(user_id: Uuid, subject: &str) -> String {
    format!("Notification sent to user {user_id}: {subject}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Uuid = Uuid::from_u128(1);
    const USER: Uuid = Uuid::from_u128(2);

    #[test]
    fn each_notice_has_its_line() {
        for (notice, expected) in [
            (Notice::Confirmed, "Your order is confirmed!"),
            (Notice::Rejected, "Your order was rejected."),
            (Notice::PaymentFailed, "The payment for your order failed."),
            (Notice::Cancelled, "Your order is cancelled."),
            (Notice::Expired, "Your order could not be completed in time."),
            (Notice::Refunded, "The payment for your order was refunded."),
        ] {
            let notification = render(notice, ORDER, None);
            let expected = format!("Notification sent to user {USER}: {expected}");
            assert_eq!(line(USER, notification.subject), expected);
            assert!(notification.sms_text.chars().count() <= SMS_CHARS_MAX, "{}", notification.sms_text);
            assert!(notification.sms_text.contains(&ORDER.to_string()));
        }
    }

    #[test]
    fn the_reason_is_in_the_email_alone() {
        let reason = "LAMP is out of stock ".repeat(100);
        let Notification { email_text, sms_text, .. } = render(Notice::Rejected, ORDER, Some(&reason));
        let expected = format!(
            "Your order was rejected.\n\nWe could not deliver it, and nothing was charged.\nReason: {reason}\n\
             \nOrder {ORDER}\n"
        );
        assert_eq!(email_text, expected);
        assert!(sms_text.len() <= SMS_CHARS_MAX, "{sms_text}");
    }
}
