"""Summaries of what was said, what each answer was made from, and whom it is counted on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UNFINISHED = sa.text("status IN ('queued', 'running')")
DUE = sa.text("status = 'due'")


def upgrade() -> None:
    # The server's default fills the rows that are there; new ones always bring their own value.
    op.add_column("replies", sa.Column("sources", sa.Text(), nullable=True))
    op.add_column("replies", sa.Column("summary_id", sa.Uuid(), nullable=True))
    op.add_column("replies", sa.Column("model_asked", sa.Text(), nullable=True))
    op.add_column("replies", sa.Column("reserved_tokens", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.create_index("ix_replies_asked_by", "replies", ["asked_by", "created_at"])
    op.create_index(
        "ix_replies_unfinished_for", "replies", ["asked_by"], postgresql_where=UNFINISHED, sqlite_where=UNFINISHED
    )
    op.create_table(
        "summaries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("room_id", sa.Uuid(), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('due', 'ready', 'void')", name="ck_summaries_status"),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_summaries_room_id_rooms"),
        sa.PrimaryKeyConstraint("id", name="pk_summaries"),
    )
    op.create_index("ix_summaries_room_id", "summaries", ["room_id", "up_to"])
    op.create_index("uq_summaries_due", "summaries", ["room_id"], unique=True, postgresql_where=DUE, sqlite_where=DUE)


def downgrade() -> None:
    op.drop_table("summaries")
    op.drop_index("ix_replies_unfinished_for", table_name="replies")
    op.drop_index("ix_replies_asked_by", table_name="replies")
    with op.batch_alter_table("replies") as batch:
        for column in ("reserved_tokens", "model_asked", "summary_id", "sources"):
            batch.drop_column(column)
