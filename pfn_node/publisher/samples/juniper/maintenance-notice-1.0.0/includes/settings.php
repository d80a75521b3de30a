<?php
/**
 * The settings page, under Settings > Maintenance.
 *
 * @package Maintenance_Notice
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

/**
 * The stored options with defaults filled in.
 */
function maintenance_notice_options() {
	return wp_parse_args(
		get_option( 'maintenance_notice', array() ),
		array(
			'enabled' => false,
			'minutes' => 30,
			'text'    => __( 'We are working on this site. Please come back a little later.', 'maintenance-notice' ),
		)
	);
}

/**
 * What may be stored: a flag, minutes between 1 and 1440, and text with the markup that posts may have.
 *
 * @param mixed $input What the form sent.
 */
function maintenance_notice_sanitize( $input ) {
	$input = is_array( $input ) ? $input : array();

	return array(
		'enabled' => ! empty( $input['enabled'] ),
		'minutes' => min( 1440, max( 1, isset( $input['minutes'] ) ? absint( $input['minutes'] ) : 30 ) ),
		'text'    => isset( $input['text'] ) ? wp_kses_post( $input['text'] ) : '',
	);
}

add_action(
	'admin_init',
	function () {
		register_setting(
			'maintenance_notice',
			'maintenance_notice',
			array( 'sanitize_callback' => 'maintenance_notice_sanitize' )
		);
	}
);

add_action(
	'admin_menu',
	function () {
		add_options_page(
			__( 'Maintenance Notice', 'maintenance-notice' ),
			__( 'Maintenance', 'maintenance-notice' ),
			'manage_options',
			'maintenance-notice',
			'maintenance_notice_page'
		);
	}
);

/**
 * Prints the form; WordPress checks its nonce and the right to save it.
 */
function maintenance_notice_page() {
	$options = maintenance_notice_options();
	?>
	<div class="wrap">
		<h1><?php esc_html_e( 'Maintenance Notice', 'maintenance-notice' ); ?></h1>
		<form method="post" action="options.php">
			<?php settings_fields( 'maintenance_notice' ); ?>
			<p><label>
				<input type="checkbox" name="maintenance_notice[enabled]" value="1" <?php checked( $options['enabled'] ); ?>>
				<?php esc_html_e( 'Show the notice to visitors', 'maintenance-notice' ); ?>
			</label></p>
			<p><label>
				<?php esc_html_e( 'Ask them to come back after this many minutes:', 'maintenance-notice' ); ?>
				<input type="number" min="1" max="1440" name="maintenance_notice[minutes]"
					value="<?php echo esc_attr( $options['minutes'] ); ?>">
			</label></p>
			<p><label>
				<?php esc_html_e( 'Text:', 'maintenance-notice' ); ?><br>
				<textarea rows="6" cols="60" name="maintenance_notice[text]"><?php echo esc_textarea( $options['text'] ); ?></textarea>
			</label></p>
			<?php submit_button(); ?>
		</form>
	</div>
	<?php
}
