-- What was sent to users.
--
-- Run by the owner role with search_path = notify; the role fn_notify may read and write the rows.

CREATE TABLE notification (
    -- Newest first is descending id; also the cursor of the list.
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- ce_id of the notification.requested that caused it. Unique: the same event never sends twice.
    event_id        text COLLATE "C" NOT NULL CONSTRAINT notification_event UNIQUE,
    order_id        uuid NOT NULL,
    user_id         uuid NOT NULL,
    -- What it tells: the order's final status, or REFUNDED.
    status          text NOT NULL,
    -- The text of each channel as it was sent; the subject is the e-mail's.
    subject         text NOT NULL,
    email_text      text NOT NULL,
    sms_text        text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX notification_of_user ON notification (user_id, id DESC);
