# fnhost with the order system's functions, for docker-compose.yml and clusters: Kafka and Postgres run elsewhere.

FROM rust:1.95.0-slim-bookworm AS build
# librdkafka is built with ./configure and make, and with OpenSSL for TLS and SCRAM.
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY rust-toolchain.toml .
RUN rustup toolchain install 1.95.0 --no-self-update --profile minimal \
      --component clippy --component rustfmt --target wasm32-wasip2
COPY . .
# The caches make later builds short; the same step copies out what is needed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/cache \
    CARGO_TARGET_DIR=/cache FNHOST_SETUP=off ./dev build \
 && install -D /cache/release/fnhost /out/bin/fnhost \
 && install -D /cache/release/payment-gateway /out/bin/payment-gateway \
 && install -d /out/app/target \
 && cp -r target/functions /out/app/target/functions \
 && cp -r spin.toml migrations /out/app/

FROM debian:12.12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home fnhost \
 && install -d -o fnhost /var/lib/fnhost
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build /out/app /app
WORKDIR /app
USER fnhost
ENV FNHOST_DATA_DIR=/var/lib/fnhost \
    FNHOST_LISTEN=0.0.0.0:3000 \
    FNHOST_ADMIN=0.0.0.0:3001 \
    FNHOST_ADMIN_HOSTS=localhost
VOLUME /var/lib/fnhost
EXPOSE 3000 3001
# The image has no HTTP client; bash can do enough.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/3001 && printf 'GET /readyz HTTP/1.0\\r\\nhost: localhost\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["fnhost"]
CMD ["up"]
