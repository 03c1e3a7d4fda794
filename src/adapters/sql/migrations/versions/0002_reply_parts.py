"""Parts of replies that are being made, for viewers whom no feed reaches; and how an answer was cut into them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null for what was ended by an earlier version, or by somebody other than its maker.
    with op.batch_alter_table("replies") as batch:
        batch.add_column(sa.Column("cuts", sa.Text(), nullable=True))
    # No reference to the reply: rows come and go many times a second while it is made, each of which would lock it.
    op.create_table(
        "reply_parts",
        sa.Column("reply_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("reply_id", "epoch", "number", name="pk_reply_parts"),
    )


def downgrade() -> None:
    op.drop_table("reply_parts")
    with op.batch_alter_table("replies") as batch:
        batch.drop_column("cuts")
