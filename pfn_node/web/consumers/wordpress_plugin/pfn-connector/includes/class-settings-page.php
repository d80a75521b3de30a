<?php
/**
 * Settings > Plugin Federation.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

/**
 * Shows and changes which nodes are asked and what is trusted.
 */
class Settings_Page {

	const PAGE       = 'pfn-connector';
	const CAPABILITY = 'install_plugins';

	/**
	 * What is shown.
	 *
	 * @var Settings
	 */
	private $settings;

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings What is shown.
	 */
	public function __construct( Settings $settings ) {
		$this->settings = $settings;
	}

	/**
	 * Hooks it in.
	 */
	public function hook() {
		add_action( 'admin_menu', array( $this, 'add' ) );
		add_action( 'admin_post_pfn_connector_save', array( $this, 'save' ) );
		add_action( 'admin_post_pfn_connector_key', array( $this, 'change_key' ) );
	}

	/**
	 * Adds the page.
	 */
	public function add() {
		$title = __( 'Plugin Federation', 'pfn-connector' );
		add_options_page( $title, $title, self::CAPABILITY, self::PAGE, array( $this, 'show' ) );
	}

	/**
	 * Keeps the general settings.
	 */
	public function save() {
		$this->check( 'pfn_connector_save' );
		$nodes = isset( $_POST['nodes'] ) && is_string( $_POST['nodes'] ) ? wp_unslash( $_POST['nodes'] ) : ''; // phpcs:ignore WordPress.Security
		$this->settings->save( $nodes, isset( $_POST['allow_unsigned'] ) ); // phpcs:ignore WordPress.Security.NonceVerification
		$this->back();
	}

	/**
	 * Accepts the key that a node names, keeps to the one that is trusted, or forgets both.
	 */
	public function change_key() {
		$this->check( 'pfn_connector_key' );
		$source   = isset( $_POST['source'] ) && is_string( $_POST['source'] ) ? wp_unslash( $_POST['source'] ) : ''; // phpcs:ignore WordPress.Security
		$decision = isset( $_POST['decision'] ) && is_string( $_POST['decision'] ) ? sanitize_key( $_POST['decision'] ) : ''; // phpcs:ignore WordPress.Security.NonceVerification
		$offered  = isset( $_POST['offered'] ) && is_string( $_POST['offered'] ) ? wp_unslash( $_POST['offered'] ) : ''; // phpcs:ignore WordPress.Security
		$keys     = $this->settings->keys();
		if ( isset( $keys[ $source ] ) ) {
			// Only the key that was shown is accepted, not one that came since.
			if ( 'accept' === $decision && '' !== $offered && $keys[ $source ]['offered'] === $offered ) {
				$this->settings->trust_key( $source, base64_decode( $offered ) );
			} elseif ( 'keep' === $decision ) {
				$this->settings->offer_key( $source, '' );
			} elseif ( 'forget' === $decision ) {
				$this->settings->forget_key( $source );
			}
		}
		$this->back();
	}

	/**
	 * Lets nobody through who may not install plugins, or did not send the page's own form.
	 *
	 * @param string $action Which form.
	 */
	private function check( $action ) {
		if ( ! current_user_can( self::CAPABILITY ) ) {
			wp_die( esc_html__( 'You may not change this.', 'pfn-connector' ), '', array( 'response' => 403 ) );
		}
		check_admin_referer( $action );
	}

	/**
	 * Goes back to the page.
	 */
	private function back() {
		wp_safe_redirect( admin_url( 'options-general.php?page=' . self::PAGE ) );
		exit;
	}

	/**
	 * Shows the page.
	 */
	public function show() {
		?>
		<div class="wrap">
			<h1><?php esc_html_e( 'Plugin Federation', 'pfn-connector' ); ?></h1>
			<form method="post" action="<?php echo esc_url( admin_url( 'admin-post.php' ) ); ?>">
				<input type="hidden" name="action" value="pfn_connector_save">
				<?php wp_nonce_field( 'pfn_connector_save' ); ?>
				<h2><label for="pfn-nodes"><?php esc_html_e( 'Nodes', 'pfn-connector' ); ?></label></h2>
				<p><?php esc_html_e( 'One URL on each line. The first that answers is asked; the others stand in for it.', 'pfn-connector' ); ?></p>
				<textarea id="pfn-nodes" name="nodes" rows="4" cols="60" class="code"><?php echo esc_textarea( implode( "\n", $this->settings->nodes() ) ); ?></textarea>
				<p><label>
					<input type="checkbox" name="allow_unsigned" <?php checked( $this->settings->allows_unsigned() ); ?>>
					<?php esc_html_e( 'Also install releases that their publisher did not sign (below A3). Then only the node vouches for their bytes.', 'pfn-connector' ); ?>
				</label></p>
				<?php submit_button(); ?>
			</form>
			<h2><?php esc_html_e( 'Keys of publishers', 'pfn-connector' ); ?></h2>
			<p><?php esc_html_e( 'A key is trusted when the first plugin of its publisher is installed. Compare the fingerprint with what the publisher says elsewhere.', 'pfn-connector' ); ?></p>
			<?php $this->show_keys(); ?>
		</div>
		<?php
	}

	/**
	 * Shows the keys, and what may be decided about them.
	 */
	private function show_keys() {
		?>
		<table class="widefat striped">
			<thead><tr>
				<th scope="col"><?php esc_html_e( 'Publisher', 'pfn-connector' ); ?></th>
				<th scope="col"><?php esc_html_e( 'Trusted key (SHA-256)', 'pfn-connector' ); ?></th>
				<th scope="col"><?php esc_html_e( 'Since', 'pfn-connector' ); ?></th>
				<th scope="col"><?php esc_html_e( 'Decide', 'pfn-connector' ); ?></th>
			</tr></thead>
			<tbody>
			<?php foreach ( $this->settings->keys() as $source => $kept ) : ?>
				<tr>
					<td><?php echo esc_html( $source ); ?></td>
					<td><code><?php echo esc_html( Settings::fingerprint( base64_decode( $kept['key'] ) ) ); ?></code></td>
					<td><?php echo esc_html( wp_date( get_option( 'date_format' ), $kept['since'] ) ); ?></td>
					<td><?php $this->show_decisions( $source, $kept['offered'] ); ?></td>
				</tr>
			<?php endforeach; ?>
			</tbody>
		</table>
		<?php
	}

	/**
	 * Shows what may be decided about a key.
	 *
	 * @param string $source  Whose key.
	 * @param string $offered Another key that a node names, in base64; empty: none.
	 */
	private function show_decisions( $source, $offered ) {
		$decisions = array( 'forget' => __( 'Forget', 'pfn-connector' ) );
		if ( '' !== $offered ) {
			/* translators: %s: a fingerprint. */
			$text = sprintf( __( 'A node names another key: %s. Nothing of this publisher is installed by it unless you accept it.', 'pfn-connector' ), Settings::fingerprint( base64_decode( $offered ) ) );
			echo '<p class="notice notice-warning inline">' . esc_html( $text ) . '</p>';
			$decisions = array(
				'accept' => __( 'Accept the other key', 'pfn-connector' ),
				'keep'   => __( 'Keep the trusted key', 'pfn-connector' ),
			);
		}
		?>
		<form method="post" action="<?php echo esc_url( admin_url( 'admin-post.php' ) ); ?>">
			<input type="hidden" name="action" value="pfn_connector_key">
			<input type="hidden" name="source" value="<?php echo esc_attr( $source ); ?>">
			<input type="hidden" name="offered" value="<?php echo esc_attr( $offered ); ?>">
			<?php wp_nonce_field( 'pfn_connector_key', '_wpnonce', true ); ?>
			<?php foreach ( $decisions as $decision => $text ) : ?>
				<button type="submit" class="button" name="decision" value="<?php echo esc_attr( $decision ); ?>"><?php echo esc_html( $text ); ?></button>
			<?php endforeach; ?>
		</form>
		<?php
	}
}
